"""YOLO sets without a data.yaml: the list of classes that labelImg, Label Studio, CVAT, darknet and
Roboflow write, and where the images of such a set are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.data_yaml import LAYOUT, SPLIT_OF_KEY, DataYaml
from pipeline.formats.image_files import read_text_within
from pipeline.io.images import SUFFIXES, images_below
from pipeline.io.read import is_junk
from pipeline.types import SPLITS

_NAMES = (
    "classes.txt", "obj.names", "data/obj.names", "predefined_classes.txt", "labels.txt",
    "_darknet.labels", "labels/classes.txt",
)  # fmt: skip
_DEEPER = ("labels/*/classes.txt", "*/labels/classes.txt", "*/classes.txt", "*/_darknet.labels")
_DARKNET = ("obj.data", "data/obj.data")
_OF_NAMES = {".txt", ".names", ".labels"}  # suffixes of a list of classes
_FIRST = {"{": "JSON", "[": "JSON", "<": "XML"}  # how a text of another format begins
_GIVE = "give data.yaml, classes.txt or the folder of the set, or another --from"
_NUMBERS = re.compile(r"[-+.\deE]+")


def list_of_classes(root: Path) -> Path | None:
    """The list of classes of a set, in its folder, or, as labelImg and Roboflow have it, in those
    of its labels; None for none. Raises DataError for several that differ."""
    for name in _NAMES:
        if (root / name).is_file():
            return root / name
    for pattern in _DEEPER:
        there = [path for path in sorted(root.glob(pattern))
                 if path.is_file() and not is_junk(path.parent.name)]  # fmt: skip
        for other in there[1:]:
            if _lines(other, root) != _lines(there[0], root):
                reason = f"names other classes than {there[0]}"
                raise DataError(
                    other, reason, "give the set with the list of classes that is right"
                )
        if there:
            return there[0]
    return None


def root_of_classes(path: Path) -> Path:
    """The folder of the set that a list of classes is of: labelImg writes the list into the folder
    of the labels, which may be one of several below `labels`."""
    return next(
        (folder.parent for folder in path.parents[:2]
         if folder.name.lower() == "labels" and (folder.parent / "images").is_dir()),
        path.parent,
    )  # fmt: skip


def image_folders(root: Path) -> tuple[str, ...]:
    """The folders called `images` or `obj_train_data`; else the folder itself."""
    return tuple(name for name in ("images", "obj_train_data") if (root / name).is_dir()) or (".",)


def split_folders(root: Path) -> dict[str, str]:
    """The folder of each split, where all images of a set are in `train`, `valid` and so on, or in
    such folders of `images`; nothing for another set."""
    base = "images" if (root / "images").is_dir() else "."
    below = [path for path in sorted((root / base).iterdir()) if not is_junk(path.name)]
    folders: dict[str, str] = {}
    for path in below:
        name = path.name.lower()
        split = SPLIT_OF_KEY.get(name, name)
        if path.is_dir() and split in SPLITS:
            if split in folders:
                return {}
            folders[split] = path.relative_to(root).as_posix()
        elif images_below(path) if path.is_dir() else path.suffix.lower() in SUFFIXES:
            return {}
    return folders


def from_classes(root: Path, names: Path) -> DataYaml:
    """A set of labelImg, Label Studio or darknet. Its images are those that the lists name, else
    all in its folders called `images` or in `obj_train_data`, else all. Folders of the names of
    splits are these. Raises DataError for what is no list of classes."""
    lines = _lines(names, root)
    if kind := _other_kind(names, lines):
        raise DataError(names, f"is no list of classes: it looks like {kind}", _GIVE)
    categories = {number: line.strip() for number, line in enumerate(lines)}
    while categories and not categories[len(categories) - 1]:
        del categories[len(categories) - 1]
    if not categories:
        raise DataError(names, "names no categories", LAYOUT)
    if blank := [number for number, name in categories.items() if not name]:
        reason = f"line {blank[0] + 1} is blank, so the numbers of the names below are not certain"
        raise DataError(names, reason, "remove the line, or write its name")
    lists = _lists(root)
    if not lists and not (lists := split_folders(root)):
        return DataYaml(names=categories, unsorted=[*image_folders(root)])
    return DataYaml(names=categories, **lists)


def _lines(path: Path, root: Path) -> list[str]:
    return read_text_within(path, root).splitlines()


def _other_kind(path: Path, lines: Sequence[str]) -> str:
    """What a file is that holds no names of classes, one a line; "" for one that may."""
    first = next((line.strip() for line in lines if line.strip()), "")
    if first[:1] in _FIRST:
        return _FIRST[first[0]]
    if path.suffix.lower() not in _OF_NAMES:
        return f"a {path.suffix.removeprefix('.').upper() or 'nameless'} file"
    parts = first.split()
    if len(parts) >= 5 and all(map(_NUMBERS.fullmatch, parts)):
        return "the labels of one image"
    return "a list of images" if Path(first).suffix.lower() in SUFFIXES else ""


def _lists(root: Path) -> dict[str, str]:
    """The list of images of each split, of those that there are."""
    lists: dict[str, str] = {}
    for name in _DARKNET:
        if (root / name).is_file():
            for line in read_text_within(root / name, root).splitlines():
                key, _, value = (part.strip() for part in line.partition("="))
                key = SPLIT_OF_KEY.get(key, key)
                if key in SPLITS and value and (place := _place(root, value)):
                    lists[key] = place
    for split in (*SPLITS, *SPLIT_OF_KEY):
        if (root / f"{split}.txt").is_file():
            lists.setdefault(SPLIT_OF_KEY.get(split, split), f"{split}.txt")
    return lists


def _place(root: Path, value: str) -> str | None:
    """A file that darknet names from the folder above: `data/train.txt`."""
    names = (value, value.removeprefix("data/"))
    return next((name for name in names if (root / name).is_file()), None)
