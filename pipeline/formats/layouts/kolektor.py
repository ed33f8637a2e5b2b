"""KolektorSDD and KolektorSDD2: every image has a mask beside it; a black one means good.

Tabernik et al., J. Intelligent Manufacturing 2020: kos01/Part0.jpg and Part0_label.bmp, a folder
for each item. Bozic et al., Computers in Industry 2021: train/10301.png and 10301_GT.png.
"""

from __future__ import annotations

from collections.abc import Iterator
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
)
from pipeline.io.mask_files import MaskSource

_DEFECT = "defect"  # these sets do not name its kind


def _listed_items(search: Search) -> Iterator[Listed]:
    for folder in folders_in(search.root):
        yield from _beside(search, folder, "_label", "", folder.name)


def _listed_splits(search: Search) -> Iterator[Listed]:
    for split in ("train", "test"):
        yield from _beside(search, inner(search.root, split), "_gt", split, "")


def _beside(search: Search, folder: Path, suffix: str, split: str, item: str) -> Iterator[Listed]:
    """The images of a folder, whose masks have their name and a suffix."""
    masks: dict[str, list[Path]] = {}
    images = []
    for path in images_in(folder):
        if path.stem.lower().endswith(suffix):
            masks.setdefault(path.stem[: -len(suffix)], []).append(path)
        else:
            images.append(path)
    masks = respelled(masks, (path.stem for path in images))
    if search.needs_masks:
        first = {stem: paths[0] for stem, paths in masks.items()}
        refuse_orphans(first, {path.stem for path in images}, folder, search.faults)
    for path in images:
        try:
            mask = only_mask(path, masks.get(path.stem, []), search)
        except DataError as error:
            search.faults.add(error)
            continue
        sources = (MaskSource(mask, _DEFECT),) if mask else ()
        lacks = None if mask else folder / f"{path.stem}{suffix}.png"
        yield Listed(path, f"{item or split}_{path.name}", split, "", sources, lacks, item)


SDD = Layout("KolektorSDD", {"kos01/Part0_label.bmp": "kos*/*_label.*"}, _listed_items)
SDD2 = Layout("KolektorSDD2", {"train/10301_GT.png": "train/*_gt.*|test/*_gt.*"}, _listed_splits)
