"""DAGM 2007: Class1/Train/0576.PNG, Class1/Train/Label/0576_label.PNG, and Test beside Train.

Wieler and Hahn, "Weakly supervised learning for industrial optical inspection", 2007. An image is
defective where Label/Labels.txt says so, or where it has a mask. Each class is a texture with one
kind of defect.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.layouts.letter_case import respelled
from pipeline.formats.layouts.listing import (
    Layout,
    Listed,
    Search,
    folders_in,
    images_in,
    inner,
    only_mask,
    refuse_orphans,
    within,
)
from pipeline.io.mask_files import MaskSource
from pipeline.io.read import read_text
from pipeline.types import GOOD

_SUFFIX = "_label"


def _listed_class(search: Search) -> Iterator[Listed]:
    for split in ("train", "test"):
        yield from _of_split(search, inner(search.root, split), split)


def _listed_all(search: Search) -> Iterator[Listed]:
    for folder in folders_in(search.root):
        if inner(folder, "train", "label").is_dir() or inner(folder, "test", "label").is_dir():
            for listed in _listed_class(replace(search, root=folder)):
                yield within(listed, folder)


def _of_split(search: Search, folder: Path, split: str) -> Iterator[Listed]:
    truth, defect = inner(folder, "label"), search.root.name
    masks = {
        path.stem[: -len(_SUFFIX)]: path
        for path in images_in(truth)
        if path.stem.lower().endswith(_SUFFIX)
    }
    images = images_in(folder)
    masks = respelled(masks, (path.stem for path in images))
    if search.needs_masks:
        refuse_orphans(masks, {path.stem for path in images}, folder, search.faults)
    defective = _defective(inner(truth, "labels.txt"))
    for path in images:
        try:
            mask = only_mask(path, [masks[path.stem]] if path.stem in masks else [], search)
        except DataError as error:
            search.faults.add(error)
            continue
        bad = mask is not None or path.stem in defective
        yield Listed(
            path,
            f"{split}_{defect if bad else GOOD}_{path.name}",
            split,
            defect if bad else GOOD,
            (MaskSource(mask, defect),) if mask else (),
            truth / f"{path.stem}{_SUFFIX}.PNG" if bad and not mask else None,
        )


def _defective(path: Path) -> set[str]:
    """The stems of defective images in Labels.txt: number, 0 or 1, image, 0, mask or 0."""
    if not path.is_file():
        return set()
    rows = [line.split() for line in read_text(path).splitlines()]
    return {Path(row[2]).stem for row in rows if len(row) >= 3 and row[1] == "1"}


CLASS = Layout(
    "DAGM 2007, one class",
    {"Train/Label/0576_label.PNG": "train/label/*_label.*|test/label/*_label.*"},
    _listed_class,
)
ALL = Layout(
    "DAGM 2007",
    {"Class1/Train/Label/0576_label.PNG": "*/train/label/*_label.*|*/test/label/*_label.*"},
    _listed_all,
)
