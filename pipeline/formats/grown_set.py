"""A converted set that grows by reviewed images: they are learned from, and what was held out from
a network stays so."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from pipeline.formats.mvtec import category_of
from pipeline.io.image_copies import portable_name
from pipeline.types import GOOD, Dataset, ImageRecord


def grown_set(base: Dataset, reviewed: Dataset) -> tuple[Dataset, frozenset[int]]:
    """The images of a converted set, then the reviewed ones that it has not; the reviewed objects
    take the place of those of the same image. Also the rows of all reviewed images.

    base: with splits, and names without them. reviewed: has the categories of the base by name, and
    perhaps others, which come last.
    """
    categories = tuple(dict.fromkeys([*base.categories, *reviewed.categories]))
    label_of = np.array([categories.index(name) for name in reviewed.categories], np.int64)
    rows = {place: row for row, record in enumerate(base.records) if (place := _place(record.path))}
    records = [replace(record, id=row + 1) for row, record in enumerate(base.records)]
    objects = {row + 1: base.on(record) for row, record in enumerate(base.records)}
    product = records[0].product if records else ""
    learned = set()
    for record in reviewed.records:
        own = reviewed.on(record)
        own = replace(own, labels=label_of[own.labels])
        place = _place(record.path)
        row = rows.get(place, len(records)) if place else len(records)
        if row == len(records):
            name = portable_name(record.file_name)
            records.append(ImageRecord(
                row + 1, record.path, name, *record.size, product=product,
                group=f"reviewed/{name}",
            ))  # fmt: skip
        defect = category_of(replace(records[row], defect=GOOD), own, categories)
        records[row] = replace(records[row], defect=defect)
        objects[row + 1] = own
        learned.add(row)
    return Dataset(categories, tuple(records), objects), frozenset(learned)


def with_known_groups(grown: Dataset, grouped: Dataset, known: int) -> Dataset:
    """The grown set, in which a new image joins the group of a known one that shows the same
    object. grouped: the same images in groups that may be joined. known: the first rows, whose
    groups stay as they are: networks were held out from them."""
    first: dict[str, str] = {}
    pairs = list(zip(grown.records, grouped.records, strict=True))
    for own, other in pairs[:known]:
        first.setdefault(other.group, own.group)
    records = [
        own if row < known else replace(own, group=first.get(other.group, other.group))
        for row, (own, other) in enumerate(pairs)
    ]
    return replace(grown, records=tuple(records))


def with_splits(grown: Dataset, learned: frozenset[int]) -> Dataset:
    """The set as it is written: an image of test whose object is learned from goes to train, and
    names begin with the split. Two images of one stem in a split get names of their own."""
    groups = {grown.records[row].group for row in learned}
    records: list[ImageRecord] = []
    taken: set[str] = set()
    order = sorted(range(len(grown.records)), key=lambda row: _moves(grown.records[row], groups))
    names: dict[int, tuple[str, str]] = {}
    for row in order:
        record = grown.records[row]
        split = "train" if _moves(record, groups) else record.split
        names[row] = split, _free(f"{split}/{portable_name(record.file_name)}", taken)
    for row, record in enumerate(grown.records):
        split, name = names[row]
        records.append(replace(record, split=split, file_name=name))
    return replace(grown, records=tuple(records))


def _moves(record: ImageRecord, groups: set[str]) -> bool:
    """Whether an image leaves the split test, or is new."""
    return (record.split == "test" and record.group in groups) or not record.split


def _free(name: str, taken: set[str]) -> str:
    """A name whose stem no other image of the split has."""
    path, number = PurePosixPath(name), 1
    own = path
    while str(own.with_suffix("")).lower() in taken:
        number += 1
        own = path.with_stem(f"{path.stem}_{number}")
    taken.add(str(own.with_suffix("")).lower())
    return str(own)


def _place(path: Path) -> tuple[int, int] | None:
    """What tells a file by any of its names; None for one that is not there."""
    try:
        state = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return state.st_dev, state.st_ino
