"""How much of each object a label format keeps: the object before it is written, against the object
that the format's reader draws."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import boxes as box_geometry
from pipeline.geometry.masks import Rle, iou, to_patch
from pipeline.geometry.patches import Patch, boundary, count_parts_and_holes
from pipeline.geometry.polygons import overlap, patch_iou
from pipeline.geometry.runs import count_shapes
from pipeline.types import Detections, ImageRecord

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


@dataclass(order=True)
class ChangedObject:
    """An object that a format changed, with all that a picture of it needs. The order is from the
    least to the most changed."""

    loss: float  # 1 - IoU
    number: int
    format: str = field(compare=False)
    record: ImageRecord = field(compare=False)
    row: int = field(compare=False)
    fidelity: ObjectFidelity = field(compare=False)
    masks: tuple[Rle, Rle | None] | None = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class FormatFidelity:
    """All objects in one format. iou_mean, iou_min: in [0, 1]. changed: objects with an IoU under
    1. lost: objects with an IoU of 0. Without objects, all but `instances` are None."""

    instances: int
    iou_mean: float | None = None
    iou_min: float | None = None
    changed: int | None = None
    lost: int | None = None


@dataclass(frozen=True, kw_only=True)
class FormatTotals(FormatFidelity):
    """Further figures, and the sums of the columns of `ObjectFidelity`, of one format."""

    iou_median: float | None = None
    boundary_iou_mean: float | None = None
    area: int | None = None
    area_read: int | None = None
    parts: int | None = None
    parts_read: int | None = None
    holes: int | None = None
    holes_read: int | None = None
    box_offset_max: float | None = None

    def summary(self) -> FormatFidelity:
        """The figures that a command prints."""
        return FormatFidelity(
            instances=self.instances,
            iou_mean=self.iou_mean,
            iou_min=self.iou_min,
            changed=self.changed,
            lost=self.lost,
        )


class FidelityTotals:
    """Adds up the fidelity of each format. Memory grows by eight bytes for each object."""

    def __init__(self, worst: int = 10) -> None:
        self._ious: dict[str, array[float]] = {}
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._largest_offset: dict[str, float] = {}
        self._most = worst
        self._worst: list[ChangedObject] = []
        self._number = 0

    def add(self, name: str, record: ImageRecord, comparison: Comparison) -> None:
        """Count the objects of one image, written as the format `name`."""
        ious = self._ious.setdefault(name, array("d"))
        if not comparison.rows:
            return
        table = np.array(comparison.rows, dtype=np.float64)
        ious.extend(table[:, 0].tolist())
        self._sums[name] = self._sums.get(name, 0.0) + table.sum(axis=0)
        largest = max(self._largest_offset.get(name, 0.0), float(table[:, -1].max()))
        self._largest_offset[name] = largest
        for row, (fidelity, masks) in enumerate(
            zip(comparison.rows, comparison.masks, strict=True)
        ):
            self._number += 1
            if fidelity.iou < 1:
                loss = 1 - fidelity.iou
                entry = ChangedObject(loss, -self._number, name, record, row, fidelity, masks)
                if len(self._worst) < self._most:
                    heapq.heappush(self._worst, entry)
                else:
                    heapq.heappushpop(self._worst, entry)

    @property
    def worst(self) -> list[ChangedObject]:
        """The objects that changed most, the most changed first. Unchanged ones are left out."""
        return sorted(self._worst, reverse=True)

    def below(self, least: float) -> int:
        """How many objects have an IoU under `least`, over all formats."""
        return sum(iou < least for ious in self._ious.values() for iou in ious)

    def by_format(self) -> Mapping[str, FormatTotals]:
        """The totals of each format."""
        return {name: self._totals(name) for name in self._ious}

    def _totals(self, name: str) -> FormatTotals:
        if name not in self._sums:
            return FormatTotals(instances=0)
        ious = np.array(self._ious[name], dtype=np.float64)
        sums = dict(zip(COLUMNS, self._sums[name].tolist(), strict=True))
        return FormatTotals(
            instances=len(ious),
            iou_mean=round(float(ious.mean()), 6),
            iou_median=round(float(np.median(ious)), 6),
            iou_min=round(float(ious.min()), 6),
            boundary_iou_mean=round(sums["boundary_iou"] / len(ious), 6),
            changed=int((ious < 1).sum()),
            lost=int((ious == 0).sum()),
            area=int(sums["area"]),
            area_read=int(sums["area_read"]),
            parts=int(sums["parts"]),
            parts_read=int(sums["parts_read"]),
            holes=int(sums["holes"]),
            holes_read=int(sums["holes_read"]),
            box_offset_max=round(self._largest_offset[name], 4),
        )


def table_rows(name: str, record: ImageRecord, comparison: Comparison) -> list[list[str]]:
    """The rows of a table: format, image, number of the object, then `COLUMNS`."""
    return [
        [name, record.file_name, str(index), *map(_cell, row)]
        for index, row in enumerate(comparison.rows, start=1)
    ]


@lru_cache(maxsize=1 << 12)  # most values are small whole numbers
def _cell(value: float) -> str:
    return f"{value:.6g}"
