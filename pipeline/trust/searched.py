"""What a detector finds on labelled images that it did not learn from.

A detector of finetune-yolo has out-of-fold detections. An anomaly model learned from good images
alone: it searches the images with defects, and the good ones of test, which it never learns from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.converted_set import read_objects
from pipeline.interfaces import Detector
from pipeline.trust.cross_detection import OUT_OF_FOLD
from pipeline.types import Dataset, Detections, Image, ImageRecord

Find = Callable[[ImageRecord, Image], tuple[Detections, NDArray[np.float32] | None]]


@dataclass(frozen=True)
class Searched:
    """Labelled images, and what is found on each: detections, and the heat map if there is one."""

    truth: Dataset
    find: Find


def labelled_images(data: Path, splits: tuple[str, ...], faults: Faults) -> Dataset:
    """All images of some splits of convert-masks, with ids from 1."""
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    datasets = read_objects(data, splits, faults, good=True)
    for dataset in datasets:
        for record in dataset.records:
            records.append(replace(record, id=len(records) + 1))
            objects[len(records)] = dataset.on(record)
    return Dataset(datasets[0].categories if datasets else (), tuple(records), objects)


def out_of_fold(detector: Path, data: Path, faults: Faults) -> Searched:
    """The images and detections of `OUT_OF_FOLD`. Raises ConfigError for a detector without it,
    DataError for images that are not in train or val of `data`."""
    path = detector / OUT_OF_FOLD
    if not path.is_file():
        raise ConfigError(
            f"{detector}: has no out-of-fold detections; train it again with finetune-yolo "
            "--folds 2 or more, on as many photos of defects at least"
        )
    found = read_coco(path, data / "images", exact=True)
    truth = with_categories(labelled_images(data, ("train", "val"), faults), found.categories)
    detections = {record.file_name: found.on(record) for record in found.records}
    known = {record.file_name for record in truth.records}
    strangers = sorted(detections.keys() - known)
    if strangers and not faults.keep_going:
        reason = f"lists {strangers[0]}, which is not in train or val of {data}"
        raise DataError(path, reason, "give --data the folder that the detector learned from")
    searched = truth.subset([r for r in truth.records if r.file_name in detections])
    return Searched(searched, lambda record, _: (_scored(detections[record.file_name]), None))


def by_anomalies(detector: Detector, data: Path, faults: Faults) -> Searched:
    """The images with defects of train and val, and the good images of test that are of no training
    folder, searched by an anomaly model."""
    learned = labelled_images(data, ("train", "val"), faults)
    test = labelled_images(data, ("test",), faults)
    records = [record for record in learned.records if len(learned.on(record))]
    good = [r for r in test.records if not len(test.on(r)) and r.source_split != "train"]
    numbered = [replace(r, id=n) for n, r in enumerate([*records, *good], start=1)]
    objects = {n: learned.on(record) for n, record in enumerate(records, start=1)}
    truth = Dataset(learned.categories, tuple(numbered), objects)
    return Searched(
        with_categories(truth, detector.categories),
        lambda _, image: (_scored(detector.detect(image)), detector.heatmap(image)),
    )


def with_categories(truth: Dataset, categories: tuple[str, ...]) -> Dataset:
    """The truth with a detector's categories; all are one where the detector has one. Raises
    ConfigError for others."""
    if len(categories) == 1:
        objects = {
            key: replace(own, labels=np.zeros_like(own.labels))
            for key, own in truth.objects.items()
        }
        return Dataset(categories, truth.records, objects)
    if not set(truth.categories) <= set(categories):
        raise ConfigError(
            f"the detector has the categories {', '.join(categories)}, and the labels "
            f"{', '.join(truth.categories)}; give --data the folder that the detector learned from"
        )
    label_of = np.array([categories.index(name) for name in truth.categories], np.int64)
    objects = {key: replace(own, labels=label_of[own.labels]) for key, own in truth.objects.items()}
    return Dataset(categories, truth.records, objects)


def _scored(detections: Detections) -> Detections:
    """Boxes, labels and scores alone; of an image without detections, none."""
    scores = detections.scores if len(detections) else np.zeros(0, np.float32)
    return Detections(detections.boxes, detections.labels, scores)
