"""How SAM looks at an object: on the whole image, or closely at the part around its box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.geometry.crops import Crop, cut, dihedral, dihedral_boxes, into, square_crop
from pipeline.models.sam.embedding_cache import Embedding
from pipeline.models.sam.encoders import ImageEncoder
from pipeline.types import Image

_JITTER = 0.06  # of a box's side


@dataclass(frozen=True)
class ViewOptions:
    """How objects are looked at.

    Boxes whose longer side is below `crop_below` of the image's are looked at closely, at each of
    `crop_scales` (window to box) in `tta` positions, in pictures of `side` pixels (None: what
    suits the encoder); the others on the whole image. `pad` widens boxes
    by a share of their sides, and `margin` cuts masks to the box widened so (None: not at all).
    `rounds` beyond one tell SAM its own first mask, `point` the inmost point of it. `multimask`
    takes the best rated of SAM's three guesses, in place of its one answer. `box_jitters` boxes are
    tried beside each, to see whether its mask depends on a pixel or two.
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
    """One embedded picture: which window of the image, in which position."""

    window: Crop
    turn: int
    embedding: Embedding


def resize_longest(image: Image, side: int) -> Image:
    """An image whose longer side is `side`, by segment-anything's own rule."""
    from segment_anything.utils.transforms import ResizeLongestSide

    return np.asarray(ResizeLongestSide(side).apply_image(image), np.uint8)


def crop_views(
    image: Image, boxes: Boxes, encoder: ImageEncoder, crop_scales: Sequence[float], tta: int
) -> list[list[View]]:
    """The part around each box (N, 4) at each zoom, in the first `tta` of the eight positions."""
    windows = [[square_crop(box, zoom) for zoom in crop_scales] for box in boxes]
    shown = {w: cut(image, w, encoder.side) for about in windows for w in about}
    seen = [[(window, turn) for window in about for turn in range(tta)] for about in windows]
    pictures = [dihedral(shown[window], turn) for each in seen for window, turn in each]
    embeddings = iter(encoder.encode([np.asarray(picture, np.uint8) for picture in pictures]))
    return [[View(*where, next(embeddings)) for where in each] for each in seen]


def prompt_box(box: NDArray[np.float32], look: View, side: int) -> Boxes:
    """A box (4,) of the image as (1, 4) pixels of a look's picture."""
    return dihedral_boxes(into(as_boxes(box), look.window, side), look.turn, side)


def prompt_point(point: NDArray[np.float32], look: View, side: int) -> NDArray[np.float32]:
    """A point (2,) of the image as (1, 2) pixels of a look's picture."""
    return prompt_box(np.concatenate([point, point]).astype(np.float32), look, side)[:, :2]


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
