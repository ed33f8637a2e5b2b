"""Roboflow's semantic masks: train/x.jpg, train/x_mask.png and train/_classes.csv, and valid and
test beside train.

A row of _classes.csv is a pixel value and the name of its category. Every image has a mask; a black
one means good. The splits are made for training, so they are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.layouts.listing import (
    Layout,
    Listed,
    Search,
    folders_in,
    images_in,
    inner,
    only_mask,
    refuse_orphans,
)
from pipeline.formats.layouts.tables import rows_of
from pipeline.io.mask_files import MaskSource

_TABLE = "_classes.csv"
_COLUMNS = ("Pixel Value", "Class")
_SUFFIX = "_mask"
_BACKGROUND = "background"
_SPLITS = {"train": "train", "valid": "val", "val": "val", "test": "test"}
_MOST = 255  # the masks have 8 bits


def _listed(search: Search) -> Iterator[Listed]:
    """The images of each split; of a single folder, those in it."""
    for folder in (search.root, *folders_in(search.root)):
        if (table := inner(folder, _TABLE)).is_file():
            split = "" if folder == search.root else _SPLITS.get(folder.name.lower(), folder.name)
            yield from _of_split(search, folder, split, table)


def _of_split(search: Search, folder: Path, split: str, table: Path) -> Iterator[Listed]:
    search.inside.refuse_outside(table)
    values = _values(table)
    images, masks = [], {}
    for path in images_in(folder):
        if path.stem.endswith(_SUFFIX):
            masks[path.stem.removesuffix(_SUFFIX)] = path
        else:
            images.append(path)
    if search.needs_masks:
        refuse_orphans(masks, {path.stem for path in images}, folder, search.faults)
    for path in images:
        try:
            mask = only_mask(path, [masks[path.stem]] if path.stem in masks else [], search)
        except DataError as error:
            search.faults.add(error)
            continue
        sources = (MaskSource(mask, values=values, table=table),) if mask else ()
        lacks = None if mask else folder / f"{path.stem}{_SUFFIX}.png"
        name = f"{split}_{path.name}" if split else path.name
        yield Listed(path, name, split, "", sources, lacks)


def _values(table: Path) -> tuple[tuple[int, str], ...]:
    """The category of each pixel value; "" for background. Raises DataError."""
    names: dict[int, str] = {}
    for row in rows_of(table, _COLUMNS):
        text, name = (row[column].strip() for column in _COLUMNS)
        if not text.isdecimal() or int(text) > _MOST:
            raise DataError(table, f"{text!r} is no pixel value", f"write 0 to {_MOST}")
        if int(text) in names:
            raise DataError(table, f"names pixel value {text} twice", "remove one")
        names[int(text)] = "" if name.lower() == _BACKGROUND else name
    names.pop(0, None)
    if not any(names.values()):
        raise DataError(table, "names no category", "write a pixel value and a name in each row")
    return tuple(sorted(names.items()))


MASKS = Layout(
    "Roboflow semantic masks",
    {
        "train/_classes.csv": "_classes.csv|*/_classes.csv",
        "train/x_mask.png": "*_mask.png|*/*_mask.png",
    },
    _listed,
    keeps_splits=True,
)
