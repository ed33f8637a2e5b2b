"""What describes a YOLO set: data.yaml, or the text files of labelling tools."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.data_yaml import LAYOUT, SPLIT_OF_KEY, DataYaml, read_data_yaml
from pipeline.formats.image_files import read_text_within
from pipeline.formats.source import SourceLog
from pipeline.io.images import SUFFIXES
from pipeline.types import SPLITS

_NAMES = (
    "classes.txt", "obj.names", "data/obj.names", "predefined_classes.txt", "labels.txt",
    "labels/classes.txt",
)  # fmt: skip
_DARKNET = ("obj.data", "data/obj.data")
_OF_NAMES = {".txt", ".names"}  # suffixes of a list of classes
_FIRST = {"{": "JSON", "[": "JSON", "<": "XML"}  # how a text of another format begins
_GIVE = "give data.yaml, classes.txt or the folder of the set, or another --from"
_NUMBERS = re.compile(r"[-+.\deE]+")


def read_description(source: Path, log: SourceLog) -> tuple[Path, DataYaml]:
    """The file that describes a set, and what it says. source: that file, or its folder. Raises
    DataError where there is none."""
    path, data = _described(source, log)
    for name, count in Counter(data.names.values()).items():
        if count > 1:
            log.note(f"{path.name}: categories of one name are one", name)
    return path, data


def _described(source: Path, log: SourceLog) -> tuple[Path, DataYaml]:
    if not source.is_dir():
        if source.suffix.lower() in {".yaml", ".yml"}:
            return source, _with_places(source, log)
        return source, _from_names(source.parent, source)
    path = source / "data.yaml"
    if not path.exists():
        others = sorted([*source.glob("*.yaml"), *source.glob("*.yml")])
        for name in _NAMES if not others else ():
            if (source / name).is_file():
                place = source / name  # labelImg's is in the folder of the labels
                file = source / place.name if place.parent.name == "labels" else place
                return file, _from_names(source, place)
        path = others[0] if len(others) == 1 else path
        if not others:
            reason = "no such file, and no classes.txt or obj.names in its place"
            raise DataError(path, reason, "write the names of the classes there, one a line")
    return path, _with_places(path, log)


def _with_places(path: Path, log: SourceLog) -> DataYaml:
    """A data.yaml, with folders of images where it names none, as supervision writes it."""
    data = _with_root(path, read_data_yaml(path), log)
    if any(data.places(split) for split in SPLITS):
        return data
    unsorted = _image_folders(data.root(path))
    log.note(f"{path.name} names no images: those in {' and '.join(unsorted)} are read")
    return data.model_copy(update={"unsorted": unsorted})


def _image_folders(root: Path) -> tuple[str, ...]:
    """The folders called `images` or `obj_train_data`; else the folder itself."""
    return tuple(name for name in ("images", "obj_train_data") if (root / name).is_dir()) or (".",)


def _with_root(path: Path, data: DataYaml, log: SourceLog) -> DataYaml:
    """With a `path` that is on this machine: ultralytics' is relative to its own folder of sets.
    Without one, folders are relative to the file."""
    if data.nc is not None and data.nc != len(data.names):
        log.note(f"{path.name}: nc is {data.nc}, but there are {len(data.names)} names; nc is not "
                 "used")  # fmt: skip
    if not data.path or data.root(path).is_dir():
        return data
    last = data.path.replace("\\", "/").rstrip("/").rpartition("/")[2]
    if last not in {"", ".."} and (path.parent / last).is_dir():
        log.note(f"{path.name}: there is no folder {data.path}; the set is read in {last}")
        return data.model_copy(update={"path": last})
    log.note(f"{path.name}: there is no folder {data.path}; the set is read beside the file")
    return data.model_copy(update={"path": None})


def _from_names(root: Path, names: Path) -> DataYaml:
    """A set of labelImg, Label Studio or darknet. Its images are those that the lists name, else
    all in its folders called `images` or in `obj_train_data`, else all."""
    lines = read_text_within(names, root).splitlines()
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
    if not lists:
        return DataYaml(names=categories, unsorted=[*_image_folders(root)])
    return DataYaml(names=categories, **lists)


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
