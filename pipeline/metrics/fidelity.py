"""What a written annotation still is when its reader has drawn it, against what it was."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import boxes as box_geometry
from pipeline.geometry.masks import Rle, iou, to_patch
from pipeline.geometry.patches import Patch, boundary, count_parts_and_holes
from pipeline.geometry.polygons import overlap, patch_iou
from pipeline.types import Detections, ImageRecord

_ROUNDING = 0.01  # pixels: what the digits of a text file leave open counts as no change
NOTHING = Patch(0, 0, np.zeros((0, 0), dtype=bool))


class Kept(NamedTuple):
    """One instance before and after. iou and boundary_iou in [0, 1]; area in pixels; parts are
    8-connected; box_offset: the farthest that a side of its box moved, in pixels."""

    iou: float
    boundary_iou: float
    area: int
    area_read: int
    parts: int
    parts_read: int
    holes: int
    holes_read: int
    box_offset: float


COLUMNS = Kept._fields


@dataclass(frozen=True)
class Comparison:
    """The instances of one image in one format, and the masks, true and read, of those changed."""

    rows: Sequence[Kept]
    evidence: Sequence[tuple[Rle, Rle | None] | None]


def kept_mask(true: Patch, read: Patch, box_offset: float, height: int, width: int) -> Kept:
    """How much of a mask was kept, on an image of this size. Empty masks agree perfectly.

    Raises nothing; `boundary_iou` is that of Cheng et al., CVPR 2021.
    """
    parts, holes = count_parts_and_holes(true)
    area = true.area
    if true.box == read.box and np.array_equal(true.pixels, read.pixels):
        return Kept(1.0, 1.0, area, area, parts, parts, holes, holes, box_offset)
    parts_read, holes_read = count_parts_and_holes(read)
    edges = [Patch(p.x, p.y, boundary(p, height, width)) for p in (true, read)]
    union = edges[0].area + edges[1].area - (shared := overlap(*edges))
    return Kept(
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


def kept_box(true: NDArray[np.float32], read: NDArray[np.float32]) -> Kept:
    """How much of a box was kept, for formats that hold no masks."""
    pair = box_geometry.as_boxes([true, read])
    areas = np.rint(box_geometry.area(pair)).astype(int).tolist()
    moved = offset(true, read)
    iou = 1.0 if moved < _ROUNDING else float(box_geometry.iou(pair[:1], pair[1:])[0, 0])
    return Kept(iou, iou, areas[0], areas[1], 1, 1, 0, 0, moved)


def offset(true: NDArray[np.float32], read: NDArray[np.float32]) -> float:
    """The farthest that a side of a box moved, in pixels."""
    return float(np.abs(true - read).max())


def compare(
    true: Detections,
    read: Detections,
    height: int,
    width: int,
    patches: Sequence[Patch] | None = None,
) -> Comparison:
    """Each instance of one image against what was read back, in the order of `true`.

    Rows belong together in order where both have as many; otherwise by the best sum of IoU, and
    one that found no partner is lost: IoU 0. Formats without masks are compared by their boxes.
    patches: the source's own pixels, where they are at hand, in place of `true.masks`.
    """
    rows: list[Kept] = []
    evidence: list[tuple[Rle, Rle | None] | None] = []
    for row, partner in enumerate(_partners(true, read)):
        box = true.boxes[row]
        found = np.zeros(4, np.float32) if partner is None else read.boxes[partner]
        if true.masks is None or read.masks is None:
            rows.append(kept_box(box, found))
            evidence.append(None)
            continue
        drawn = None if partner is None else read.masks[partner]
        source = patches[row] if patches is not None else to_patch(true.masks[row])
        back = to_patch(drawn) if drawn is not None else NOTHING
        rows.append(kept_mask(source, back, offset(box, found), height, width))
        evidence.append((true.masks[row], drawn) if rows[-1].iou < 1 else None)
    return Comparison(rows, evidence)


def _partners(true: Detections, read: Detections) -> Sequence[int | None]:
    if len(true) == len(read):
        return range(len(true))
    from scipy.optimize import linear_sum_assignment

    overlaps = _overlaps(true, read)
    chosen = dict(zip(*(axis.tolist() for axis in linear_sum_assignment(-overlaps)), strict=True))
    return [
        column if (column := chosen.get(row)) is not None and overlaps[row, column] > 0 else None
        for row in range(len(true))
    ]


def _overlaps(true: Detections, read: Detections) -> NDArray[np.floating[Any]]:
    if true.masks is not None and read.masks is not None:
        return iou(true.masks, read.masks)
    return box_geometry.iou(true.boxes, read.boxes)


@dataclass(order=True)
class Worst:
    """An instance of which little was kept, and what a picture of it needs. Sorts worst last."""

    badness: float
    number: int
    format: str = field(compare=False)
    record: ImageRecord = field(compare=False)
    row: int = field(compare=False)
    kept: Kept = field(compare=False)
    masks: tuple[Rle, Rle | None] | None = field(compare=False)


class FidelityTotals:
    """Adds up what was kept, per format, in memory that grows by eight bytes an instance."""

    def __init__(self, worst: int = 10) -> None:
        self._ious: dict[str, array[float]] = {}
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._furthest: dict[str, float] = {}
        self._most = worst
        self._worst: list[Worst] = []
        self._number = 0

    def add(self, name: str, record: ImageRecord, found: Comparison) -> None:
        """Count the instances of one image, written as the format `name`."""
        ious = self._ious.setdefault(name, array("d"))
        if not found.rows:
            return
        table = np.array(found.rows, dtype=np.float64)
        ious.extend(table[:, 0].tolist())
        self._sums[name] = self._sums.get(name, 0.0) + table.sum(axis=0)
        self._furthest[name] = max(self._furthest.get(name, 0.0), float(table[:, -1].max()))
        for row, (kept, masks) in enumerate(zip(found.rows, found.evidence, strict=True)):
            self._number += 1
            if kept.iou < 1:
                entry = Worst(1 - kept.iou, -self._number, name, record, row, kept, masks)
                if len(self._worst) < self._most:
                    heapq.heappush(self._worst, entry)
                else:
                    heapq.heappushpop(self._worst, entry)

    @property
    def worst(self) -> list[Worst]:
        """The instances that lost most, worst first; none that lost nothing."""
        return sorted(self._worst, reverse=True)

    def below(self, least: float) -> int:
        """How many instances keep an IoU under `least`, over all formats."""
        return sum(iou < least for found in self._ious.values() for iou in found)

    def summary(self) -> Mapping[str, Mapping[str, Any]]:
        """Per format: instances, IoU, boundary IoU, and sums of area, parts and holes."""
        return {name: self._row(name) for name in self._ious}

    def _row(self, name: str) -> Mapping[str, Any]:
        if name not in self._sums:
            return {"instances": 0}
        ious = np.array(self._ious[name], dtype=np.float64)
        sums = dict(zip(COLUMNS, self._sums[name].tolist(), strict=True))
        return {
            "instances": len(ious),
            "iou_mean": round(float(ious.mean()), 6),
            "iou_median": round(float(np.median(ious)), 6),
            "iou_min": round(float(ious.min()), 6),
            "boundary_iou_mean": round(sums["boundary_iou"] / len(ious), 6),
            "changed": int((ious < 1).sum()),
            "lost": int((ious == 0).sum()),
            **{key: int(sums[key]) for key in COLUMNS[2:-1]},
            "box_offset_max": round(self._furthest[name], 4),
        }


def table_rows(name: str, record: ImageRecord, found: Comparison) -> list[list[str]]:
    """Rows of a table: format, image, number of the object, then a `Kept`'s columns."""
    return [
        [name, record.file_name, str(index), *(f"{value:.6g}" for value in row)]
        for index, row in enumerate(found.rows, start=1)
    ]
