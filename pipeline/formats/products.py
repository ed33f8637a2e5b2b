"""One MVTec product, for the stages that classify whole images."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import Faults
from pipeline.formats.mvtec import group_by as grouped
from pipeline.formats.mvtec import read_mvtec
from pipeline.splits import read_split
from pipeline.types import GOOD, Dataset, ImageRecord


def read_product(
    data: Path,
    faults: Faults,
    group_by: str | None = None,
    good_limit: int | None = None,
    split: Path | None = None,
    allow_outside: bool = False,
) -> Dataset:
    """The images of a product, whose masks may be missing.

    group_by: as in convert-masks. good_limit: at most so many good images, evenly spaced. split:
    a split file, which gives each image's `split`. allow_outside: as in `read_mvtec`. Raises
    DataError.
    """
    listed = read_mvtec([data], faults, allow_outside=allow_outside, needs_masks=False)
    if group_by:
        listed = grouped(listed, group_by)
    if good_limit is not None:
        listed = _limited(listed, good_limit)
    return read_split(split, listed) if split else listed


def image_categories(dataset: Dataset) -> tuple[str, ...]:
    """Categories of whole images: `good`, where an image is, and those of defects."""
    present = {record.defect for record in dataset.records}
    return ((GOOD,) if GOOD in present else ()) + dataset.categories


def train_and_test(dataset: Dataset) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """The training records, and those of split `test`, or of `val` where there is no test."""
    splits = {record.split for record in dataset.records}
    name = "test" if "test" in splits else "val"
    test = [record for record in dataset.records if record.split == name]
    return [record for record in dataset.records if record.split != name], test


def _limited(dataset: Dataset, limit: int) -> Dataset:
    good = [record for record in dataset.records if record.defect == GOOD]
    step = max(len(good) / max(limit, 1), 1)
    ids = {good[int(i * step)].id for i in range(min(limit, len(good)))}
    return dataset.subset([r for r in dataset.records if r.defect != GOOD or r.id in ids])
