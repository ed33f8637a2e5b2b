"""How SAM views an object: the whole image, or crops around its box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.geometry.crops import Crop, crop_image, dihedral, dihedral_boxes, square_crop, to_crop
from pipeline.models.sam.embedding_cache import Embedding
from pipeline.models.sam.encoders import ImageEncoder
from pipeline.types import Image

_JITTER = 0.06  # of a box's sides


@dataclass(frozen=True)
class ViewOptions:
    """How objects are viewed.

    Boxes whose longer side is below `crop_below` of the image's are cropped, the others are viewed
    on the whole image. Crops have `crop_scales` times the box's longer side, in `tta` of eight
    rotations and mirrors, resized to `side` pixels (None: what suits the encoder). `pad` widens
    boxes by a share of their sides. `margin` clips masks to the box widened so (None: not at all).
    From the second of `rounds` on, SAM gets its own mask as a prompt, and with `point` the mask's
    innermost point. `multimask` takes the best rated of SAM's three masks in place of its single
    one. `box_jitters` boxes beside each measure how stable its mask is.
    """

    side: int | None = None
    crop_below: float = 0.0
    crop_scales: tuple[float, ...] = (2.4,)
    tta: int = 1
    pad: float = 0.0
    margin: float | None = None
    rounds: int = 1
    point: bool = False
    multimask: bool = False
    box_jitters: int = 0


class View(NamedTuple):
    """One embedded picture: a crop of the image, in one of its eight rotations and mirrors."""

    crop: Crop
    position: int
    embedding: Embedding


def resize_longest(image: Image, side: int) -> Image:
    """An image whose longer side is `side`, by segment-anything's own rule."""
    from segment_anything.utils.transforms import ResizeLongestSide

    return np.asarray(ResizeLongestSide(side).apply_image(image), np.uint8)


def crop_views(
    image: Image, boxes: Boxes, encoder: ImageEncoder, crop_scales: Sequence[float], tta: int
) -> list[list[View]]:
    """Crops around each box (N, 4) at each scale, in the first `tta` of the eight positions."""
    crops = [[square_crop(box, scale) for scale in crop_scales] for box in boxes]
    pixels = {crop: crop_image(image, crop, encoder.side) for own in crops for crop in own}
    places = [[(crop, position) for crop in own for position in range(tta)] for own in crops]
    pictures = [dihedral(pixels[crop], position) for own in places for crop, position in own]
    embeddings = iter(encoder.encode([np.asarray(picture, np.uint8) for picture in pictures]))
    return [[View(*place, next(embeddings)) for place in own] for own in places]


def prompt_box(box: NDArray[np.float32], view: View, side: int) -> Boxes:
    """A box (4,) of the image as (1, 4) pixels of a view's picture."""
    return dihedral_boxes(to_crop(as_boxes(box), view.crop, side), view.position, side)


def prompt_point(point: NDArray[np.float32], view: View, side: int) -> NDArray[np.float32]:
    """A point (2,) of the image as (1, 2) pixels of a view's picture."""
    return prompt_box(np.concatenate([point, point]).astype(np.float32), view, side)[:, :2]


def jittered_boxes(box: NDArray[np.float32], count: int) -> list[NDArray[np.float32]]:
    """A box (4,) a little wider, narrower, and moved: at most four, the same for every call."""
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2, np.float32) * _JITTER
    signs = np.array([[-1, -1, 1, 1], [1, 1, -1, -1], [1, 1, 1, 1], [-1, -1, -1, -1]], np.float32)
    return [box + sign * sides for sign in signs[:count]]


def padded(boxes: Boxes, share: float) -> Boxes:
    """Boxes (N, 4) widened by a share of their sides."""
    if not share:
        return boxes
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2) * np.float32(share)
    return as_boxes(boxes + sides * np.array([-1, -1, 1, 1], np.float32))


def peak_in_box(
    heatmap: NDArray[np.float32], box: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """The pixel centre (x, y) inside a box where a heat map (H, W) is highest."""
    x0, y0 = np.floor(box[:2]).astype(int)
    x1, y1 = np.ceil(box[2:]).astype(int)
    inside = heatmap[y0:y1, x0:x1]
    if not inside.size:
        return None
    y, x = np.unravel_index(int(np.argmax(inside)), inside.shape)
    return np.array([x0 + x + 0.5, y0 + y + 0.5], np.float32)
