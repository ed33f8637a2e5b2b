"""A YOLO set of our own for one training, written from what was read and checked.

ultralytics runs code that it finds beside a set: data.yaml's `download`, and label caches, which it
unpickles. So it never sees the set that was given, only a fresh folder with nothing else in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pipeline.errors import DataError
from pipeline.formats.coco import read_coco
from pipeline.formats.yolo import write_data_yaml, write_yolo_image
from pipeline.io.images import SUFFIXES, read_size
from pipeline.io.names import safe_component
from pipeline.io.read import read_bytes
from pipeline.io.write import make_folder, remove_tree, write_text
from pipeline.runtime.progress import say, track
from pipeline.types import SPLITS, Dataset, ImageRecord

_LEAST_SIDE = 10  # pixels; ultralytics passes over smaller images
_LABEL_LIMIT = 64 << 20  # bytes of one label file


@dataclass(frozen=True)
class TrainingSet:
    """What is learned from (`train`), what epochs are compared on (`val`), what the figures are
    held against (`truth`), and what the confidence is chosen on (`validation`, if images are set
    apart for it)."""

    folder: Path
    train: Dataset
    val: Dataset
    truth: Dataset
    validation: Dataset | None


def read_training_set(data: Path, fold: int | None = None) -> TrainingSet:
    """Read what convert-masks wrote into `data`: its splits, or one fold of its cross-validation.

    Without val, test or train serves. Raises DataError for a folder that convert-masks did not
    write, and for images that are missing, no images, of another size, or outside `data`.
    """
    prefix = "" if fold is None else f"fold{fold}_"
    found = {split: _read_part(data, f"{prefix}{split}") for split in SPLITS}
    if fold is not None:
        found.pop("test")
    splits = {split: dataset for split, dataset in found.items() if dataset is not None}
    wanted = ("train", "val") if fold is not None else ()
    if not splits or any(split not in splits for split in wanted):
        name = next((split for split in wanted if split not in splits), "train")
        path = data / "annotations" / f"instances_{prefix}{name}.json"
        raise DataError(path, "no such file", "give the folder that convert-masks wrote")
    in_place = splits.get("test") or splits.get("train") or splits["val"]
    train, val = splits.get("train", in_place), splits.get("val", in_place)
    _refuse_mixed(data, train, val)
    if "test" not in splits and "val" not in splits:
        say("no image is held out: the figures are those of images it was trained on")
    truth = splits.get("test") or val
    return TrainingSet(data, train, val, truth, splits.get("val"))


def write_training_set(root: Path, chosen: TrainingSet) -> Path:
    """Write labels, images (as hard links where that works) and lists below `root`, in place of all
    that is there; returns the data.yaml for ultralytics."""
    remove_tree(root)
    make_folder(root)
    edited = 0
    listed: dict[str, str] = {}
    for split, dataset in _distinct(chosen).items():
        lines = []
        for record in track(dataset.records, f"lay out {split}"):
            placed = replace(record, file_name=_placed_name(record.file_name))
            text = write_yolo_image(root, placed, dataset.on(record), False, False)
            lines.append(f"./images/{placed.file_name}\n")
            edited += _is_edited(chosen.folder, record, text)
        listed[split] = f"{split}.txt"
        write_text(root / listed[split], "".join(lines))
    if edited:
        say(f"{chosen.folder / 'labels'}: {edited} files differ from the annotations; learned are")
        say("the annotations (pipeline convert-masks writes both)")
    listed.setdefault("val", listed["train"])
    write_data_yaml(root / "data.yaml", chosen.train.categories, listed)
    return root / "data.yaml"


def _read_part(data: Path, name: str) -> Dataset | None:
    path = data / "annotations" / f"instances_{name}.json"
    if not path.exists():
        return None
    dataset = read_coco(path, data / "images")
    if not dataset.records:
        raise DataError(path, "lists no image", "run convert-masks again")
    inside = data.resolve()
    for record in dataset.records:
        _check_image(record, inside)
    if all(min(record.size) < _LEAST_SIDE for record in dataset.records):
        reason = f"has no image of at least {_LEAST_SIDE} pixels a side"
        raise DataError(path, reason, "YOLO learns nothing from smaller ones")
    return dataset


def _check_image(record: ImageRecord, inside: Path) -> None:
    """Raise DataError unless an image is a regular file inside the set, by name an image, and of
    the size that is listed."""
    path = record.path
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(path, "has no image's suffix", f"one of {', '.join(sorted(SUFFIXES))}")
    if not path.is_file():
        raise DataError(path, "no such image", "run convert-masks again")
    if not path.resolve().is_relative_to(inside):
        raise DataError(path, f"is a link that leads out of {inside}", "copy the image there")
    if (size := read_size(path)) != record.size:
        reason = f"is {size[1]}x{size[0]}, but listed as {record.width}x{record.height}"
        raise DataError(path, reason, "pipeline validate names all such faults")


def _refuse_mixed(data: Path, train: Dataset, val: Dataset) -> None:
    """Raise DataError for two splits of other categories, or with one image's files in both."""
    if train.categories != val.categories:
        reason = "has other categories in train than in val"
        raise DataError(data / "annotations", reason, "run convert-masks again")
    records = train.records if train is val else (*train.records, *val.records)
    Dataset(train.categories, records).refuse_equal_stems()


def _distinct(chosen: TrainingSet) -> Mapping[str, Dataset]:
    """The splits to write: one alone where it serves as both."""
    same = chosen.train is chosen.val
    return {"train": chosen.train} if same else {"train": chosen.train, "val": chosen.val}


def _placed_name(name: str) -> str:
    """An image's name in a set of our own: as it is, unless a split is unsafe or a folder is called
    `images`, which ultralytics would take for the one beside `labels`."""
    path = PurePosixPath(name)
    parents = [safe_component("images/" if part == "images" else part) for part in path.parts[:-1]]
    return "/".join([*parents, safe_component(path.stem, path.suffix)])


def _is_edited(folder: Path, record: ImageRecord, text: str) -> bool:
    """Whether the set has a label file for an image that says something else."""
    path = folder / "labels" / Path(record.file_name).with_suffix(".txt")
    try:
        return path.is_file() and read_bytes(path, _LABEL_LIMIT) != text.encode()
    except DataError:
        return True
