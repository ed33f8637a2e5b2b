"""The fidelity of all objects of a dataset, added up for each label format."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.masks import Rle
from pipeline.metrics.fidelity import COLUMNS, Comparison, ObjectFidelity
from pipeline.types import ImageRecord


@dataclass(order=True)
class ChangedObject:
    """An object that a format changed, with all that its picture needs. The order is from the
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
