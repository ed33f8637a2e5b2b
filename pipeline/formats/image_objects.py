"""The objects of one image, each a box or a mask as its label file has it, as `Detections`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline.formats.source import SourceLog
from pipeline.formats.values import refuse_far
from pipeline.geometry.boxes import as_boxes
from pipeline.geometry.masks import Rle, area, bounding_boxes, encode_patches, from_box
from pipeline.geometry.patches import Patch
from pipeline.types import Detections

CLIPPED = "polygon clipped to the image"
MASK_CLIPPED = "mask clipped to the image"
ROUNDED = 0.5  # pixels that a tool's own rounding may put outside the image


@dataclass(frozen=True, kw_only=True)
class SourceObject:
    """An object of a label file.

    kind: as the source names it, such as `polygon`. where: its file or image, and its id. box: x0,
    y0, x1, y1 in pixels, for an object without a mask. rle: its mask. to: what it was converted to,
    such as `mask` for an ellipse; "" for what is read as it is. score: in [0, 1], of a prediction.
    flags: what is true of the object, such as `difficult`.
    """

    kind: str
    where: str
    label: int
    box: Sequence[float] = ()
    rle: Rle | None = None
    to: str = ""
    score: float | None = None
    flags: frozenset[str] = frozenset()


def gather(
    source_objects: Sequence[SourceObject], size: tuple[int, int], log: SourceLog
) -> Detections:
    """The objects of an image (height, width), each counted in `log`.

    Boxes stay boxes where no object has a mask; otherwise they become filled masks. They are
    clipped to the image. A box without an area inside is left out, and an object that covers no
    pixel. Scores are kept if all objects have one. A flag of any object is a column of
    `attributes` for all.
    """
    objects = [_inside(each, size) for each in source_objects]
    if any(each.rle is not None for each in objects):
        objects = [_as_mask(each, size) for each in objects]
    objects = [each for each in objects if _has_area(each, log)]
    if not objects:
        return Detections.none()
    for each in objects:
        log.convert(each.kind, each.to) if each.to else log.read()
    labels = np.array([each.label for each in objects], dtype=np.int64)
    given = [each.score for each in objects if each.score is not None]
    scores = np.array(given, dtype=np.float32) if len(given) == len(objects) else None
    if given and scores is None:
        log.note("scores are not kept, for an object beside them has none", objects[0].where)
    flags = {flag for each in objects for flag in each.flags}
    columns = {flag: np.array([flag in each.flags for each in objects]) for flag in sorted(flags)}
    masks = tuple(each.rle for each in objects if each.rle is not None)
    if masks:
        return Detections(bounding_boxes(masks), labels, scores, masks, attributes=columns)
    boxes = as_boxes([each.box for each in objects])
    return Detections(boxes, labels, scores, attributes=columns)


def polygon_rle(points: NDArray[np.float64], height: int, width: int) -> Rle:
    """The pixels of a polygon (P, 2) xy, of at least 3 points, as pycocotools draws it. Raises
    ValueError for a point far outside the image."""
    refuse_far(points, height, width)
    rle = coco_mask.frPyObjects([points.ravel().tolist()], height, width)[0]
    return Rle(size=[height, width], counts=rle["counts"])


def clipped(points: NDArray[np.float64], size: tuple[int, int]) -> str:
    """What a polygon (P, 2) xy becomes on an image (height, width): "" for one inside it."""
    beyond = np.maximum(-points, points - (size[1], size[0]))
    return CLIPPED if beyond.max(initial=0) > ROUNDED else ""


def patch_rle(patch: Patch, height: int, width: int) -> Rle:
    """The mask of a patch on an image (height, width)."""
    return encode_patches([patch], height, width)[0]


def _inside(each: SourceObject, size: tuple[int, int]) -> SourceObject:
    """A box with its low corner first, clipped to the image."""
    if each.rle is not None:
        return each
    x0, y0, x1, y1 = each.box
    box, to = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), each.to
    if box != (x0, y0, x1, y1):
        to = "box with its corners swapped back"
    height, width = size
    clipped = tuple(
        min(max(side, 0.0), most) for side, most in zip(box, (width, height) * 2, strict=True)
    )
    if max(abs(one - other) for one, other in zip(box, clipped, strict=True)) > ROUNDED:
        to = to or "box clipped to the image"
    return replace(each, box=clipped, to=to)


def _as_mask(each: SourceObject, size: tuple[int, int]) -> SourceObject:
    if each.rle is not None:
        return each
    rle = from_box(np.array(each.box, dtype=np.float32), *size)
    return replace(each, rle=rle, to="filled mask")


def _has_area(each: SourceObject, log: SourceLog) -> bool:
    """Whether an object is any region; it is left out otherwise."""
    if each.rle is not None and not area(each.rle):
        log.leave_out(each.kind, "it covers no pixel of the image", each.where)
        return False
    if each.rle is None and (each.box[0] == each.box[2] or each.box[1] == each.box[3]):
        log.leave_out(each.kind, "it has no area inside the image", each.where)
        return False
    return True
