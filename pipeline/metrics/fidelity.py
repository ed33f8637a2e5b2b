"""How much of each object a label format keeps: the object before it is written, against the object
that the format's reader draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import boxes as box_geometry
from pipeline.geometry.masks import Rle, iou, to_patch
from pipeline.geometry.patches import Patch, boundary, count_parts_and_holes
from pipeline.geometry.polygons import overlap, patch_iou
from pipeline.geometry.runs import count_shapes
from pipeline.types import Detections

_ROUNDING = 0.01  # pixels; a change this small comes from the digits of a text file
_EMPTY = Patch(0, 0, np.zeros((0, 0), dtype=bool))


class ObjectFidelity(NamedTuple):
    """One object before it was written, and after it was read back (`*_read`).

    iou, boundary_iou: in [0, 1], before against after. area: pixels. parts: 8-connected parts.
    box_offset: the largest move of a side of its box, in pixels.
    """

    iou: float
    boundary_iou: float
    area: int
    area_read: int
    parts: int
    parts_read: int
    holes: int
    holes_read: int
    box_offset: float


COLUMNS = ObjectFidelity._fields


@dataclass(frozen=True)
class Comparison:
    """The objects of one image in one format.

    rows: one for each object. masks: for each object whose mask changed, the mask before and after
    (None for an object that was lost); None for the others.
    """

    rows: Sequence[ObjectFidelity]
    masks: Sequence[tuple[Rle, Rle | None] | None]


def mask_fidelity(
    true: Patch, read: Patch, box_offset: float, height: int, width: int
) -> ObjectFidelity:
    """Compare two masks on an image (height, width). Two empty masks have an IoU of 1.

    The boundary IoU is that of Cheng et al., CVPR 2021.
    """
    parts, holes = count_parts_and_holes(true)
    area = true.area
    if true.box == read.box and np.array_equal(true.pixels, read.pixels):
        return ObjectFidelity(1.0, 1.0, area, area, parts, parts, holes, holes, box_offset)
    parts_read, holes_read = count_parts_and_holes(read)
    edges = [Patch(p.x, p.y, boundary(p, height, width)) for p in (true, read)]
    union = edges[0].area + edges[1].area - (shared := overlap(*edges))
    return ObjectFidelity(
        iou=patch_iou(true, read),
        boundary_iou=shared / union if union else 1.0,
        area=area,
        area_read=read.area,
        parts=parts,
        parts_read=parts_read,
        holes=holes,
        holes_read=holes_read,
        box_offset=box_offset,
    )


def box_fidelity(true: NDArray[np.float32], read: NDArray[np.float32]) -> ObjectFidelity:
    """Compare two boxes (4,) xyxy, for formats without masks."""
    pair = box_geometry.as_boxes([true, read])
    areas = np.rint(box_geometry.area(pair)).astype(int).tolist()
    moved = offset(true, read)
    iou = 1.0 if moved < _ROUNDING else float(box_geometry.iou(pair[:1], pair[1:])[0, 0])
    return ObjectFidelity(iou, iou, areas[0], areas[1], 1, 1, 0, 0, moved)


def offset(true: NDArray[np.float32], read: NDArray[np.float32]) -> float:
    """The largest move of a side of a box (4,) xyxy, in pixels."""
    return float(np.abs(true - read).max())


def compare(
    true: Detections,
    read: Detections,
    height: int,
    width: int,
    patches: Sequence[Patch] | None = None,
) -> Comparison:
    """Compare each object of one image with the object that was read back, in the order of `true`.

    With equal counts, objects are paired in order. With different counts, pairs have the largest
    sum of IoU, and an object without a partner is lost: its IoU is 0. Formats without masks are
    compared by their boxes. height, width: of the image. patches: the pixels of the source, where
    the caller has them, in place of `true.masks`.
    """
    rows: list[ObjectFidelity] = []
    masks: list[tuple[Rle, Rle | None] | None] = []
    equal = _equal_masks(true, read) if patches is None else {}
    for row, partner in enumerate(_partners(true, read)):
        if row in equal:
            rows.append(equal[row])
            masks.append(None)
            continue
        box = true.boxes[row]
        box_read = np.zeros(4, np.float32) if partner is None else read.boxes[partner]
        if true.masks is None or read.masks is None:
            rows.append(box_fidelity(box, box_read))
            masks.append(None)
            continue
        drawn = None if partner is None else read.masks[partner]
        source = patches[row] if patches is not None else to_patch(true.masks[row])
        back = to_patch(drawn) if drawn is not None else _EMPTY
        rows.append(mask_fidelity(source, back, offset(box, box_read), height, width))
        masks.append((true.masks[row], drawn) if rows[-1].iou < 1 else None)
    return Comparison(rows, masks)


def _equal_masks(true: Detections, read: Detections) -> dict[int, ObjectFidelity]:
    """The fidelity of each object whose mask has the same RLE as that of its partner, by row:
    nothing is decoded for it."""
    if true.masks is None or read.masks is None or len(true) != len(read):
        return {}
    pairs = zip(true.masks, read.masks, strict=True)
    rows = [row for row, (one, other) in enumerate(pairs) if one == other]
    if not rows:
        return {}
    shapes = count_shapes([true.masks[row] for row in rows])
    moved = np.abs(true.boxes - read.boxes).max(axis=1).tolist()
    return {
        row: ObjectFidelity(1.0, 1.0, area, area, parts, parts, holes, holes, moved[row])
        for row, area, parts, holes in zip(
            rows, *(column.tolist() for column in shapes), strict=True
        )
    }


def _partners(true: Detections, read: Detections) -> Sequence[int | None]:
    if len(true) == len(read):
        return range(len(true))
    from scipy.optimize import linear_sum_assignment

    overlaps = _overlaps(true, read)
    rows, columns = linear_sum_assignment(-overlaps)
    column_of = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    return [
        column if (column := column_of.get(row)) is not None and overlaps[row, column] > 0 else None
        for row in range(len(true))
    ]


def _overlaps(true: Detections, read: Detections) -> NDArray[np.floating[Any]]:
    if true.masks is not None and read.masks is not None:
        return iou(true.masks, read.masks)
    return box_geometry.iou(true.boxes, read.boxes)
