"""Out-of-fold detections: each image is searched by a detector that did not learn from it.

They are what the detector finds on new images of the same product, on every image of train and val,
where the val split alone has a handful of defects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from pipeline.formats.coco import image_text, read_coco
from pipeline.formats.coco_rows import row_texts
from pipeline.formats.coco_stream import coco_writer
from pipeline.formats.yolo_training import TrainingSet
from pipeline.interfaces import Detector
from pipeline.io.images import read_image
from pipeline.io.manifest import WORK
from pipeline.io.work_log import LOG, WorkLog
from pipeline.io.write import make_folder, remove_tree
from pipeline.runtime.progress import say, track
from pipeline.splits import folds
from pipeline.types import GOOD, Dataset, Detections, ImageRecord

OUT_OF_FOLD = "out_of_fold.json"  # in the folder of a detector
MIN_CONFIDENCE = 0.01  # of out-of-fold detections
MAX_BOXES = 100  # of an image
Learn = Callable[[Path, TrainingSet], Detector]  # trains in a folder, or goes on there


def learned_images(splits: TrainingSet) -> Dataset:
    """The images of train and val, each once, with ids from 1; those of test are left out."""
    sources = [splits.train, *([splits.validation] if splits.validation else [])]
    records: dict[str, ImageRecord] = {}
    objects: dict[int, Detections] = {}
    for source in sources:
        for record in source.records:
            if record.split != "test" and record.file_name not in records:
                number = len(records) + 1
                records[record.file_name] = replace(record, id=number)
                objects[number] = source.on(record)
    return Dataset(splits.train.categories, tuple(records.values()), objects)


def same_steps(epochs: int, whole: TrainingSet, part: TrainingSet) -> int:
    """The number of epochs over a part of the training images that has as many steps as `epochs`
    over all. With fewer steps a detector's scores are lower than those of the final one."""
    return round(epochs * len(whole.train.records) / max(len(part.train.records), 1))


def detect_out_of_fold(
    folder: Path,
    splits: TrainingSet,
    categories: tuple[str, ...],
    count: int,
    seed: int,
    learn: Learn,
) -> Dataset | None:
    """Write `OUT_OF_FOLD` into `folder`: the detections on each of `learned_images`, by a detector
    that learned from the other folds. None, with a notice, where photos of defects are too few.

    categories: of the detector. The work log keeps finished folds for a run that goes on; a fold's
    own folder is removed when its detections are kept.
    """
    images = learned_images(splits)
    fold_of = _fold_of(images, count, seed)
    if fold_of is None:
        say(f"too few photos of defects for {count} folds: there are no out-of-fold detections")
        return None
    with WorkLog(folder / LOG, "detector folds", TypeAdapter(int)) as log:
        for fold in range(count):
            run = folder / WORK / f"fold_{fold}"
            if fold not in log:
                say(f"fold {fold + 1} of {count}: the detector learns without its photos")
                make_folder(run)
                detector = learn(run, _without_fold(splits, fold_of, fold))
                own = [record for record in images.records if fold_of[record.file_name] == fold]
                rows = [
                    text
                    for record in track(own, f"detect, fold {fold + 1} of {count}")
                    for text in row_texts(record, detector.detect(read_image(record.path)))
                ]
                log.add(fold, len(own), rows)
            remove_tree(run)
        with coco_writer(folder / OUT_OF_FOLD, categories) as writer:
            for record in images.records:
                writer.add_image(image_text(record))
            writer.add_rows(text for _, text in log.rows())
    return read_coco(folder / OUT_OF_FOLD, splits.folder / "images", exact=True)


def _fold_of(images: Dataset, count: int, seed: int) -> Mapping[str, int] | None:
    """The fold of each image by its file name: groups stay together, and the images of each
    category, and the good ones, are spread. None where a fold would have no photo of a defect."""
    records = [
        replace(record, group=_group(record), defect=_category(images, record))
        for record in images.records
    ]
    groups = {record.group for record in records if record.defect != GOOD}
    fold_of_group = folds(records, count, seed)
    if len({fold_of_group[group] for group in groups}) < count:
        return None
    return {record.file_name: fold_of_group[record.group] for record in records}


def _without_fold(splits: TrainingSet, fold_of: Mapping[str, int], fold: int) -> TrainingSet:
    """The images of train and val in the other folds. The epochs are compared on those of val, or,
    where none of them has an object, on those of train: never on the fold's own."""

    def others(dataset: Dataset) -> Dataset:
        records = [r for r in dataset.records if fold_of.get(r.file_name, fold) != fold]
        return dataset.subset(records)

    train, val = others(splits.train), others(splits.validation or splits.train.subset([]))
    if not _has_object(train):
        train, val = val, train
    if not _has_object(val):
        val = train
    return replace(splits, train=train, val=val, truth=val, validation=None)


def _has_object(dataset: Dataset) -> bool:
    return any(len(dataset.on(record)) for record in dataset.records)


def _group(record: ImageRecord) -> str:
    return record.group or record.file_name


def _category(images: Dataset, record: ImageRecord) -> str:
    """Of the image's first object."""
    labels = images.on(record).labels
    return images.categories[int(labels[0])] if len(labels) else GOOD
