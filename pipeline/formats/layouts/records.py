"""From the listing of a layout to the records of a dataset: sizes, unique names, and categories
that only pixels tell."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.errors import DataError, Faults
from pipeline.formats.layouts.jpeg_masks import with_thresholds
from pipeline.formats.layouts.listing import Listed, Search
from pipeline.formats.record_masks import label_values, value_name
from pipeline.formats.values import as_data_error
from pipeline.io.images import read_size
from pipeline.io.mask_files import MaskSource, read_mask_values
from pipeline.runtime.progress import track
from pipeline.types import GOOD, Dataset, ImageRecord

_COMBINED = "combined"


def records_of(listed: Iterable[Listed], search: Search, product: str = "") -> list[ImageRecord]:
    """The records of a layout's images. product: comes before the names. A category that the
    layout does not tell is read from the masks. Faulty images go to `search.faults`."""
    records = []
    for entry, defect in _with_defects(with_thresholds(list(listed)), search):
        try:
            records.append(_record(entry, defect, search, product))
        except DataError as error:
            search.faults.add(error)
    return records


def as_dataset(records: list[ImageRecord], faults: Faults) -> Dataset:
    """A dataset of records, numbered from 1, with unique names."""
    _refuse_equal_names(records, faults)
    names = {mask.category for record in records for mask in record.masks if mask.category}
    names |= {name for r in records for mask in r.masks for _, name in mask.values if name}
    categories = sorted((names | {r.defect for r in records if not r.masks}) - {GOOD})
    numbered = tuple(replace(record, id=index + 1) for index, record in enumerate(records))
    return Dataset(tuple(categories), numbered)


def _record(entry: Listed, defect: str, search: Search, product: str) -> ImageRecord:
    search.inside.refuse_outside(entry.path)
    height, width = read_size(entry.path)
    if search.needs_masks and entry.lacks is not None:
        raise DataError(entry.path, f"has no mask {entry.lacks}", "draw one, or move the image")
    name = f"{product}_{entry.name}" if product else entry.name
    prefix = f"{product}/" if product else ""
    group = entry.group or (
        f"{entry.split}/{defect}/{entry.path.stem}" if product else str(Path(name).with_suffix(""))
    )
    with as_data_error(entry.path, "", "rename it"):
        return ImageRecord(
            id=0,
            path=entry.path,
            file_name=name,
            height=height,
            width=width,
            product=product,
            source_split=entry.split,
            defect=defect,
            masks=entry.masks if defect != GOOD else (),
            group=prefix + group,
        )


def _with_defects(listed: list[Listed], search: Search) -> Iterator[tuple[Listed, str]]:
    """Each image with its category, in order. Masks are read by several threads."""
    unknown = [entry for entry in listed if not entry.defect]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        find = partial(_defect_of, threshold=search.threshold)
        defects = pool.map(find, track(unknown, "read masks")) if unknown else iter(())
        for entry in listed:
            if entry.defect:
                yield entry, entry.defect
                continue
            defect = next(defects)
            if isinstance(defect, DataError):
                search.faults.add(defect)
            else:
                yield entry, defect


def _defect_of(entry: Listed, threshold: int | None) -> str | DataError:
    """The category of an image by the pixels of its masks: `good` for black ones."""
    names: set[str] = set()
    try:
        for mask in entry.masks:
            names |= categories_of(mask, threshold)
    except DataError as error:
        return error
    return GOOD if not names else names.pop() if len(names) == 1 else _COMBINED


def categories_of(mask: MaskSource, threshold: int | None) -> set[str]:
    """The categories that a mask has pixels of. Raises DataError."""
    if not mask.values:
        cut = mask.threshold if threshold is None else threshold
        return {mask.category} if (read_mask_values(mask.path) > cut).any() else set()
    names = dict(mask.values)
    values = np.unique(label_values(mask)).tolist()
    return {name for value in values if (name := names.get(value, value_name(value) * bool(value)))}


def _refuse_equal_names(records: list[ImageRecord], faults: Faults) -> None:
    by_stem: dict[str, ImageRecord] = {}
    for record in list(records):
        key = str(Path(record.file_name).with_suffix(""))
        if key in by_stem:
            other = by_stem[key].path
            records.remove(record)
            faults.add(DataError(record.path, f"has the same name as {other}", "rename one"))
        else:
            by_stem[key] = record
