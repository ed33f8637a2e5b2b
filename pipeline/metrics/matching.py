"""Predicted objects matched with true objects, over two datasets of the same images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.geometry.boxes import Boxes, area
from pipeline.metrics.detection import is_crowd
from pipeline.metrics.masks import match
from pipeline.types import Dataset, Detections, ImageRecord, Rle

_ON_CROWD = 0.5  # least share of a prediction on a crowd


@dataclass(frozen=True)
class Match:
    """A predicted and a true object on one image, each by its row."""

    record: ImageRecord
    predicted: int
    true: int


@dataclass(frozen=True)
class MatchedObjects:
    """Truth and predictions (by image id) with equal image ids and labels, and their matches.

    ignored: objects of the truth that are crowds. They have no match.
    """

    truth: Dataset
    predictions: Mapping[int, Detections]
    matches: Sequence[Match]
    missed: int
    extra: int
    ignored: int = 0

    @property
    def has_masks(self) -> bool:
        """Whether all objects have masks."""
        objects = (*self.truth.objects.values(), *self.predictions.values())
        return all(detections.masks is not None for detections in objects)

    def category(self, pair: Match) -> str:
        """The true category of a match."""
        return self.truth.categories[int(self.truth.on(pair.record).labels[pair.true])]

    def masks(self, pairs: Sequence[Match]) -> tuple[list[Rle], list[Rle]]:
        """The predicted and the true mask of each match."""
        predicted = [(self.predictions[p.record.id].masks or ())[p.predicted] for p in pairs]
        true = [(self.truth.on(p.record).masks or ())[p.true] for p in pairs]
        return predicted, true


def match_objects(truth: Dataset, predictions: Dataset) -> MatchedObjects:
    """Match the objects of each image by their boxes, whatever their categories.

    Two images are the same when their names are equal, or the last parts of their names, where
    those are unique in the truth. Where one side has only one category, both sides get one
    category. Crowds of the truth are matched with nothing, and a prediction that lies on one is not
    extra. Raises ConfigError for other categories, DataError for predictions on other images.
    """
    truth, aligned = _aligned(truth, predictions)
    matches: list[Match] = []
    missed = extra = ignored = 0
    for record in truth.records:
        true, predicted = truth.on(record), aligned.get(record.id, Detections.none())
        crowds = is_crowd(true)
        rows = np.flatnonzero(~crowds)
        pairs = match(predicted.boxes, true.boxes[rows])
        matches += [Match(record, row, int(rows[column])) for row, column in pairs]
        missed += len(rows) - len(pairs)
        ignored += int(crowds.sum())
        others = np.setdiff1d(np.arange(len(predicted)), [row for row, _ in pairs])
        on_crowd = _share_inside(predicted.boxes[others], true.boxes[crowds]) >= _ON_CROWD
        extra += len(others) - int(on_crowd.any(axis=1).sum())
    return MatchedObjects(truth, aligned, matches, missed, extra, ignored)


def _share_inside(boxes: Boxes, regions: Boxes) -> NDArray[np.float32]:
    """(N, M) the share of each box's area that is in each region, as COCOeval has it for crowds."""
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    whole = np.broadcast_to(area(boxes)[:, None], shared.shape)
    share = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return np.asarray(share, dtype=np.float32)


def _aligned(truth: Dataset, predictions: Dataset) -> tuple[Dataset, dict[int, Detections]]:
    """The truth, and the predictions by its image ids and with its labels."""
    truth = _with_categories_of(predictions, truth)
    ids = _ids_by_name(truth)
    aligned: dict[int, Detections] = {}
    for record in predictions.records:
        key = ids.get(record.file_name, ids.get(Path(record.file_name).name))
        if key is not None:
            objects = predictions.on(record)
            aligned[key] = _unlabelled(objects) if len(truth.categories) == 1 else objects
    if not aligned:
        raise DataError(
            Path(predictions.records[0].file_name if predictions.records else "predictions"),
            "no image of the predictions is in the truth",
            "evaluate predictions on the images that the truth lists",
        )
    return truth, aligned


def _with_categories_of(predictions: Dataset, truth: Dataset) -> Dataset:
    if predictions.categories == truth.categories:
        return truth
    if 1 not in (len(predictions.categories), len(truth.categories)):
        raise ConfigError(
            f"categories differ: truth has {', '.join(truth.categories)}; "
            f"predictions have {', '.join(predictions.categories)}"
        )
    merged = {key: _unlabelled(objects) for key, objects in truth.objects.items()}
    return Dataset(("defect",), truth.records, merged)


def _ids_by_name(dataset: Dataset) -> dict[str, int]:
    """Image ids by file name, and by its last part where that is unique."""
    count = Counter(Path(record.file_name).name for record in dataset.records)
    ids = {Path(r.file_name).name: r.id for r in dataset.records}
    ids = {name: key for name, key in ids.items() if count[name] == 1}
    return ids | {record.file_name: record.id for record in dataset.records}


def _unlabelled(objects: Detections) -> Detections:
    return replace(objects, labels=np.zeros_like(objects.labels))
