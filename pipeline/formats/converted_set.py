"""The files of a converted dataset that list its images: COCO files, data.yaml, split.json,
folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from pipeline.errors import DataError, Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.image_files import NamedFolders, leave_out_outside, leave_out_unreadable
from pipeline.formats.source import SourceLog
from pipeline.formats.yolo import splits_of, write_data_yaml
from pipeline.io.names import safe_component
from pipeline.io.read import RUN_FILE, checked
from pipeline.io.run_record import read_run_file
from pipeline.io.write import write_text
from pipeline.splits import folds, write_split
from pipeline.types import Dataset, ImageRecord


class _Leaks(BaseModel):
    images: int = 0
    held_out: int = 0


_LEAKS = TypeAdapter(_Leaks)


def leak_mark(data: Path) -> str | None:
    """What to write beside figures of a converted set whose split leaks; None for one that does
    not, and for a folder that convert-masks of version 0.9 or later did not write.

    data: the folder. Raises DataError for a run.json of other content.
    """
    if not (data / RUN_FILE).is_file():
        return None
    run = read_run_file(data)
    if run.command != "convert-masks":
        return None
    leaks = checked(_LEAKS, run.summary.get("leaks", {}), data / RUN_FILE, "leaks")
    if not leaks.images:
        return None
    return f"{leak_text(leaks.images, leaks.held_out)}; figures on them are too high"


def leak_text(images: int, held_out: int) -> str:
    """How many of the held-out images show an object of another split."""
    return (
        f"the split leaks: {images} of {held_out} held-out images show an object that train or "
        "val has too"
    )


def fold_of_group(dataset: Dataset, count: int, seed: int) -> Mapping[str, int]:
    """The fold (from 0) of each group of images outside the test split; empty for a `count` of
    0."""
    pool = [record for record in dataset.records if record.split != "test"]
    return folds(pool, count, seed) if count else {}


def coco_file_stems(record: ImageRecord, count: int, fold_of: Mapping[str, int]) -> Iterator[str]:
    """The stems of the COCO files that list an image: of all images, of its split, and, outside the
    test split, of its side of each of `count` folds."""
    yield "instances"
    yield safe_component(f"instances_{record.split}")
    if record.split != "test":
        for fold in range(count):
            split = "val" if fold_of[record.group] == fold else "train"
            yield f"instances_fold{fold}_{split}"


def write_lists(folder: Path, dataset: Dataset, count: int, seed: int) -> None:
    """Write data.yaml for boxes and for polygons, split.json, and the data.yaml and image lists of
    each of `count` folds."""
    splits = splits_of(dataset.records)
    for root in (folder, folder / "segment"):
        write_data_yaml(root / "data.yaml", dataset.categories, splits)
    write_split(folder / "split.json", dataset)
    fold_of = fold_of_group(dataset, count, seed)
    test = {"test": splits["test"]} if "test" in splits else {}
    for fold in range(count):
        listings = {split: f"fold{fold}_{split}.txt" for split in ("train", "val")}
        for split, name in listings.items():
            records = [
                record
                for record in dataset.records
                if record.split != "test" and (fold_of[record.group] == fold) == (split == "val")
            ]
            lines = "".join(f"./images/{record.file_name}\n" for record in records)
            write_text(folder / name, lines)
        write_data_yaml(folder / f"data_fold{fold}.yaml", dataset.categories, test | listings)


def read_objects(
    data: Path, splits: Sequence[str], faults: Faults, good: bool = False
) -> list[Dataset]:
    """The images with objects of the splits that there are; with `good`, the others too. Images
    that are outside `data` or cannot be read go to `faults`. Raises DataError for a folder without
    train where it is named."""
    files = [data / "annotations" / f"instances_{split}.json" for split in splits]
    present = [path for path in files if path.is_file()]
    if not present and "train" in splits:
        raise DataError(files[0], "no such file", "give --data a folder that convert-masks wrote")
    return [_read_objects(path, data, faults, good) for path in present]


def _read_objects(path: Path, data: Path, faults: Faults, good: bool) -> Dataset:
    dataset = read_coco(path, data / "images", SourceLog(faults))
    dataset = leave_out_outside(dataset, NamedFolders([data]), faults)
    kept = dataset.subset([r for r in dataset.records if good or len(dataset.on(r))])
    return leave_out_unreadable(kept, faults)
