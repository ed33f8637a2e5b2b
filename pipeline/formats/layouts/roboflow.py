"""Roboflow's semantic masks: train/x.jpg, train/x_mask.png and train/_classes.csv, and valid and
test beside train.

A row of _classes.csv is a pixel value, or a colour, and the name of its category. Every image has a
mask; a black one means good. The splits are made for training, so they are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.layouts.class_tables import table_in, values_of
from pipeline.formats.layouts.letter_case import respelled
from pipeline.formats.layouts.listing import (
    Layout,
    Listed,
    Search,
    folders_in,
    images_in,
    only_mask,
    refuse_orphans,
)
from pipeline.io.mask_files import MaskSource

_SUFFIX = "_mask"
_SPLITS = {"train": "train", "valid": "val", "val": "val", "test": "test"}


def _listed(search: Search) -> Iterator[Listed]:
    """The images of each split; of a single folder, those in it."""
    for folder in (search.root, *folders_in(search.root)):
        if table := table_in(folder):
            split = "" if folder == search.root else _SPLITS.get(folder.name.lower(), folder.name)
            yield from _of_split(search, folder, split, table)


def _of_split(search: Search, folder: Path, split: str, table: Path) -> Iterator[Listed]:
    search.inside.refuse_outside(table)
    values = values_of(table)
    images: list[Path] = []
    masks: dict[str, Path] = {}
    for path in images_in(folder):
        if path.stem.lower().endswith(_SUFFIX):
            masks[path.stem[: -len(_SUFFIX)]] = path
        else:
            images.append(path)
    masks = respelled(masks, (path.stem for path in images))
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


MASKS = Layout(
    "Roboflow semantic masks",
    {
        "train/_classes.csv": "_classes.csv|*/_classes.csv|class_dict.csv|*/class_dict.csv",
        "train/x_mask.png": "*_mask.png|*/*_mask.png",
    },
    _listed,
    keeps_splits=True,
)
