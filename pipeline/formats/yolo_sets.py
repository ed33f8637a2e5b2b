"""What describes a YOLO set: data.yaml, or the text files of labelling tools."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.data_yaml import DataYaml, read_data_yaml
from pipeline.formats.source import SourceLog
from pipeline.formats.yolo_classes import (
    from_classes,
    image_folders,
    list_of_classes,
    root_of_classes,
)
from pipeline.types import SPLITS


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
        root = root_of_classes(source)
        return root / source.name, from_classes(root, source)
    path = source / "data.yaml"
    if not path.exists():
        others = sorted([*source.glob("*.yaml"), *source.glob("*.yml")])
        if not others and (place := list_of_classes(source)):
            # folders are relative to the set's, and labelImg's list is in that of the labels
            file = place if place.parent.name == "data" else source / place.name
            return file, from_classes(source, place)
        path = others[0] if len(others) == 1 else path
        if not others:
            deeper = sorted(source.glob("*/data.yaml"))
            if deeper:
                reason = f"no such file, but there is one in the folder {deeper[0].parent.name}"
                raise DataError(path, reason, f"give {deeper[0].parent}")
            reason = "no such file, and no classes.txt or obj.names in its place"
            raise DataError(path, reason, "write the names of the classes there, one a line")
    return path, _with_places(path, log)


def _with_places(path: Path, log: SourceLog) -> DataYaml:
    """A data.yaml, with folders of images where it names none, as supervision writes it."""
    data = _with_root(path, read_data_yaml(path), log)
    if any(data.places(split) for split in SPLITS):
        return data
    unsorted = image_folders(data.root(path))
    log.note(f"{path.name} names no images: those in {' and '.join(unsorted)} are read")
    return data.model_copy(update={"unsorted": unsorted})


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
