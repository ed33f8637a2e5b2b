"""A fresh YOLO folder for one training, written from checked labels.

ultralytics runs code that lies beside a dataset: it executes `download` of data.yaml and unpickles
label caches. So it never gets the user's folder, only a new one with nothing else in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pipeline.errors import DataError, Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.image_files import leave_out_faulty, refuse_unreadable
from pipeline.formats.source import SourceLog
from pipeline.formats.yolo import write_data_yaml, write_yolo_image
from pipeline.io.images import SUFFIXES
from pipeline.io.names import safe_component
from pipeline.io.read import read_bytes
from pipeline.io.write import make_folder, remove_tree, write_text
from pipeline.runtime.progress import say, track
from pipeline.types import SPLITS, Dataset, ImageRecord

_MIN_SIDE = 10  # pixels; ultralytics skips smaller images
_LABEL_LIMIT = 64 << 20  # bytes of one label file


@dataclass(frozen=True)
class TrainingSet:
    """The images of one training.

    folder: what convert-masks wrote. train: the images to learn from. val: the images that epochs
    are compared on. truth: the images that figures are measured on. validation: the images that the
    confidence is chosen on; None where no split is kept for it.
    """

    folder: Path
    train: Dataset
    val: Dataset
    truth: Dataset
    validation: Dataset | None


def read_training_set(
    data: Path, fold: int | None = None, faults: Faults | None = None
) -> TrainingSet:
    """Read what convert-masks wrote into `data`: its splits, or one fold of its cross-validation.

    Without val images, val is test, or else train. faults: takes an image that is missing, not an
    image, of another size, or outside `data`, and a faulty object; without it, the first is raised.
    Raises DataError for a folder that convert-masks did not write, and for a split of which no
    image is left.
    """
    prefix = "" if fold is None else f"fold{fold}_"
    names = SPLITS if fold is None else [split for split in SPLITS if split != "test"]
    read = {split: _read_split(data, f"{prefix}{split}", faults or Faults()) for split in names}
    splits = {split: dataset for split, dataset in read.items() if dataset is not None}
    required = ("train", "val") if fold is not None else ()
    if not splits or any(split not in splits for split in required):
        name = next((split for split in required if split not in splits), "train")
        path = data / "annotations" / f"instances_{prefix}{name}.json"
        raise DataError(path, "no such file", "give the folder that convert-masks wrote")
    other = splits.get("test") or splits.get("train") or splits["val"]
    train, val = splits.get("train", other), splits.get("val", other)
    _refuse_mixed(data, train, val)
    if "test" not in splits and "val" not in splits:
        say("no image is held out: the figures are measured on the training images")
    truth = splits.get("test") or val
    return TrainingSet(data, train, val, truth, splits.get("val"))


def write_training_set(root: Path, data: TrainingSet) -> Path:
    """Write labels, images (as hard links where possible) and lists below `root`, after `root` is
    emptied. Returns the data.yaml for ultralytics."""
    remove_tree(root)
    make_folder(root)
    edited = 0
    listed: dict[str, str] = {}
    for split, dataset in _distinct(data).items():
        lines = []
        for record in track(dataset.records, f"write {split}"):
            renamed = replace(record, file_name=_safe_name(record.file_name))
            text = write_yolo_image(root, renamed, dataset.on(record), False, False)
            lines.append(f"./images/{renamed.file_name}\n")
            edited += _is_edited(data.folder, record, text)
        listed[split] = f"{split}.txt"
        write_text(root / listed[split], "".join(lines))
    if edited:
        say(f"{data.folder / 'labels'}: {edited} files differ from the annotations. The training")
        say("uses the annotations (pipeline convert-masks writes both)")
    listed.setdefault("val", listed["train"])
    write_data_yaml(root / "data.yaml", data.train.categories, listed)
    return root / "data.yaml"


def _read_split(data: Path, name: str, faults: Faults) -> Dataset | None:
    path = data / "annotations" / f"instances_{name}.json"
    if not path.exists():
        return None
    dataset = read_coco(path, data / "images", SourceLog(faults))
    inside = data.resolve()
    dataset = leave_out_faulty(dataset, lambda record: _check_image(record, inside), faults)
    if not dataset.records:
        reason = f"no image is left ({faults.lines[-1]})" if faults.errors else "lists no image"
        raise DataError(path, reason, "run convert-masks again")
    if all(min(record.size) < _MIN_SIDE for record in dataset.records):
        reason = f"has no image of at least {_MIN_SIDE} pixels a side"
        raise DataError(path, reason, "YOLO learns nothing from smaller ones")
    return dataset


def _check_image(record: ImageRecord, inside: Path) -> None:
    """Raise DataError unless an image is a file inside the dataset, has the suffix of an image, can
    be decoded, and has the listed size: ultralytics leaves out what it cannot read."""
    path = record.path
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(path, "has no suffix of an image", f"one of {', '.join(sorted(SUFFIXES))}")
    if not path.is_file():
        raise DataError(path, "no such image", "run convert-masks again")
    if not path.resolve().is_relative_to(inside):
        raise DataError(path, f"is a link that leads out of {inside}", "copy the image there")
    refuse_unreadable(record)


def _refuse_mixed(data: Path, train: Dataset, val: Dataset) -> None:
    """Raise DataError where train and val have different categories, or one file name."""
    if train.categories != val.categories:
        reason = "has other categories in train than in val"
        raise DataError(data / "annotations", reason, "run convert-masks again")
    records = train.records if train is val else (*train.records, *val.records)
    Dataset(train.categories, records).refuse_equal_stems()


def _distinct(data: TrainingSet) -> Mapping[str, Dataset]:
    """The splits to write: only train where train and val are the same images."""
    same = data.train is data.val
    return {"train": data.train} if same else {"train": data.train, "val": data.val}


def _safe_name(name: str) -> str:
    """The name of an image in the new folder: unchanged, unless one of its parts is unsafe or a
    folder is called `images`, which ultralytics would take for the folder beside `labels`."""
    path = PurePosixPath(name)
    parents = [safe_component("images/" if part == "images" else part) for part in path.parts[:-1]]
    return "/".join([*parents, safe_component(path.stem, path.suffix)])


def _is_edited(folder: Path, record: ImageRecord, text: str) -> bool:
    """Whether the label file of an image in the user's folder has another text."""
    path = folder / "labels" / Path(record.file_name).with_suffix(".txt")
    try:
        return path.is_file() and read_bytes(path, _LABEL_LIMIT) != text.encode()
    except DataError:
        return True
