"""VisA as it is published: <object>/Data/Images/Normal and Anomaly, Data/Masks/Anomaly.

Zou et al., "SPot-the-Difference", ECCV 2022. `image_anno.csv` names the defects of each image, and
`split_csv/1cls.csv` beside the objects puts images into train and test.
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
    by_stem,
    folders_in,
    images_in,
    inner,
    only_mask,
    refuse_orphans,
    within,
)
from pipeline.formats.layouts.tables import rows_of
from pipeline.io.mask_files import MaskSource
from pipeline.types import GOOD

_SPLIT_FILE = ("split_csv", "1cls.csv")
_NORMAL = "normal"


def _listed_object(search: Search) -> Iterator[Listed]:
    """The images of one object, whose split file may be beside it."""
    yield from _of_object(search, _splits(search.root.parent), search.root.name)


def _listed_all(search: Search) -> Iterator[Listed]:
    """The images of all objects."""
    splits = _splits(search.root)
    for folder in folders_in(search.root):
        if not inner(folder, "Data", "Images").is_dir():
            continue
        for listed in _of_object(replace(search, root=folder), splits, folder.name):
            yield within(listed, folder)


def _of_object(search: Search, splits: dict[str, str], name: str) -> Iterator[Listed]:
    root = search.root
    masks = inner(root, "Data", "Masks", "Anomaly")
    labels = _labels(root)
    for kind in ("Normal", "Anomaly"):
        images = images_in(inner(root, "Data", "Images", kind))
        stems = {path.stem for path in images}
        own = respelled(by_stem(images_in(masks)), stems) if kind == "Anomaly" else {}
        if search.needs_masks:
            first = {stem: paths[0] for stem, paths in own.items()}
            refuse_orphans(first, stems, inner(root, "Data", "Images", kind), search.faults)
        for path in images:
            key = path.relative_to(root).as_posix().lower()
            split = splits.get(f"{name}/{key}".lower(), "")
            if kind == "Normal":
                yield Listed(path, f"good_{path.name}", split, GOOD)
                continue
            try:
                mask = only_mask(path, own.get(path.stem, []), search)
            except DataError as error:
                search.faults.add(error)
                continue
            defect = labels.get(key, "anomaly")
            sources = (MaskSource(mask, defect),) if mask else ()
            lacks = None if mask else masks / f"{path.stem}.png"
            yield Listed(path, f"{defect}_{path.name}", split, defect, sources, lacks)


def _splits(folder: Path) -> dict[str, str]:
    """The split of each image by its path below the folder, in small letters; nothing without the
    file."""
    path = inner(folder, *_SPLIT_FILE)
    if not path.is_file():
        return {}
    return {row["image"].lower(): row["split"] for row in rows_of(path, ("image", "split"))}


def _labels(root: Path) -> dict[str, str]:
    """The category of each image by its path below its object, in small letters. The masks do not
    say which pixels are of which of several defects, so they are one category."""
    path = inner(root, "image_anno.csv")
    if not path.is_file():
        return {}
    labels = {}
    for row in rows_of(path, ("image", "label")):
        names = sorted({name.strip() for name in row["label"].split(",") if name.strip()})
        if names and names != [_NORMAL]:
            key = row["image"].lower().removeprefix(f"{root.name}/".lower())
            labels[key] = names[0] if len(names) == 1 else "combined"
    return labels


_IMAGES = "Data/Images/Anomaly|Data/Images/Normal"
OBJECT = Layout("VisA", {"Data/Images/Normal and Anomaly": _IMAGES}, _listed_object)
ALL = Layout(
    "VisA, all objects",
    {
        "<object>/Data/Images/Normal and Anomaly": "*/Data/Images/Anomaly|*/Data/Images/Normal",
    },
    _listed_all,
)
