"""One product, for the stages that classify whole images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.errors import Faults
from pipeline.formats.datasets import read_datasets
from pipeline.formats.groups import group_by as grouped
from pipeline.formats.layouts import read_products
from pipeline.io.mask_files import MaskSource
from pipeline.runtime.progress import say
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
    """The images of a product or of a converted set, whose masks may be missing.

    group_by: a pattern or a file; see `formats.groups`. good_limit: at most so many good images,
    evenly spaced. split: a split file, which gives each image's `split`. allow_outside: as in
    `read_products`. Raises DataError and ConfigError.
    """
    if is_converted(data):
        listed = _converted(data, faults, allow_outside)
        split = None  # its images have one
    else:
        listed = read_products([data], faults, allow_outside, needs_masks=False)
    if group_by:
        by_user = grouped(listed, group_by, [data])
        if by_user.unmatched:
            say(f"--group-by: {by_user.unmatched} images have no match, and are alone")
        listed = by_user.dataset
    if good_limit is not None:
        listed = _limited(listed, good_limit)
    return read_split(split, listed, faults) if split else listed


def is_converted(data: Path) -> bool:
    """Whether a folder is what convert-masks wrote."""
    return (data / "annotations" / "instances.json").is_file() and (data / "masks").is_dir()


def _converted(data: Path, faults: Faults, allow_outside: bool) -> Dataset:
    """The images of a converted set, whose masks are its PNG masks."""
    dataset = read_datasets([data], faults, None, allow_outside)
    records = []
    for record in dataset.records:
        path = data / "masks" / record.split / Path(record.file_name).with_suffix(".png")
        masks = (
            (MaskSource(path, record.defect, is_numbered=True),) if record.defect != GOOD else ()
        )
        records.append(replace(record, masks=masks))
    return Dataset(dataset.categories, tuple(records))


def image_categories(dataset: Dataset) -> tuple[str, ...]:
    """Categories of whole images: `good`, where an image is, and those of defects."""
    present = {record.defect for record in dataset.records}
    return ((GOOD,) if GOOD in present else ()) + tuple(sorted(present - {GOOD}))


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
