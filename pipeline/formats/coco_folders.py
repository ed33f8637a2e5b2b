"""Where a COCO file of a folder and its photos are, and folders of one file for each split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.coco import images_beside, read_coco
from pipeline.formats.coco_schema import PARQUET, coco_lists
from pipeline.formats.data_yaml import SPLIT_OF_KEY
from pipeline.formats.schema import unusable
from pipeline.formats.shard_index import index_of, is_index
from pipeline.formats.source import SourceLog
from pipeline.io.read import RUN_FILE
from pipeline.types import SPLITS, Dataset, Detections, ImageRecord


def read_coco_folder(folder: Path, images: Path | None, log: SourceLog) -> Dataset:
    """Read the COCO file of a folder, or of each folder of a split in it. Raises DataError."""
    path = _file_in(folder)
    splits = {} if path.exists() else _splits_in(folder)
    if splits:
        return _read_splits(splits, images, log)
    beside = folder / "images"
    images = images or (beside if beside.is_dir() else images_meant(path))
    return read_coco(path, images, log)


def images_meant(path: Path) -> Path | None:
    """The folder beside a COCO file that holds its photos; None where the first photo is where the
    file says, and for what is no COCO file."""
    if path.suffix.lower() not in {".json", PARQUET} or not path.is_file():
        return None
    if not (beside := images_beside(path)):
        return None
    try:
        raw = coco_lists(path)
        first = next(raw.rows("images"), None) if raw.has("images") else None
    except DataError:
        return None  # the reader names the fault
    name = first.get("file_name") if isinstance(first, dict) else None
    if not isinstance(name, str) or unusable(name) or (path.parent / name).exists():
        return None
    return beside


def _file_in(folder: Path) -> Path:
    """The COCO file of a folder: our own, an index, tables, or the only JSON file there or in
    `annotations`, or the only one of instances. Raises DataError for several."""
    usual = folder / "annotations" / "instances.json"
    others = index_of(usual), folder / f"images{PARQUET}"
    if not usual.exists() and (own := next(filter(Path.is_file, others), None)):
        return own
    files = [*folder.glob("*.json"), *folder.glob("annotations/*.json")]
    files = sorted(path for path in files if path.name != RUN_FILE)
    files = [path for path in files if is_index(path)] or files
    of_instances = [path for path in files if path.name.startswith("instances")]
    files = of_instances or files  # beside those of keypoints, captions, panoptic masks
    if usual.exists() or not files:
        return usual
    if len(files) > 1:
        names = ", ".join(path.name for path in files[:3])
        raise DataError(folder, f"holds several JSON files ({names})", "give one of them")
    return files[0]


def _splits_in(folder: Path) -> dict[str, Path]:
    """The COCO file of each folder that is called as a split, by the name of the folder."""
    names = {*SPLITS, *SPLIT_OF_KEY}
    folders = sorted(folder.iterdir()) if folder.is_dir() else []
    files = {each.name: _file_in(each) for each in folders if each.name.lower() in names}
    return {name: path for name, path in files.items() if path.is_file()}


def _read_splits(files: Mapping[str, Path], images: Path | None, log: SourceLog) -> Dataset:
    """One set of several files, as Roboflow has them. An image has the name of its folder before
    its own. files: by the name of the folder."""
    log.note(f"the COCO files of the folders {', '.join(files)} are read as one set")
    sets = {name: read_coco(path, _photos_of(name, path, images), log)
            for name, path in files.items()}  # fmt: skip
    categories = tuple(dict.fromkeys(name for each in sets.values() for name in each.categories))
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    for folder, each in sets.items():
        label_of = np.array([categories.index(name) for name in each.categories], np.int64)
        split = SPLIT_OF_KEY.get(folder.lower(), folder.lower())
        for record in each.records:
            key, name = len(records) + 1, f"{folder}/{record.file_name}"
            records.append(replace(record, id=key, file_name=name, split=record.split or split))
            if len(own := each.on(record)):
                objects[key] = replace(own, labels=label_of[own.labels], ids=None)
    return Dataset(categories, tuple(records), objects)


def _photos_of(name: str, path: Path, images: Path | None) -> Path | None:
    if images is not None:
        return images / name if (images / name).is_dir() else images
    return images_meant(path)
