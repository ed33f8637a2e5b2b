"""What a detector finds on photos of its folds, and on photos that are new to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from segmenters import random_segmenter

from pipeline.geometry.boxes import as_boxes
from pipeline.proposals.out_of_fold import OutOfFoldFinders
from pipeline.trust.searched import Searched
from pipeline.types import Dataset, Detections, Image, ImageRecord


def found(score: float) -> Detections:
    return Detections(as_boxes([[0, 0, 4, 4]]), np.array([0]), np.array([score], np.float32))


class New:
    categories: tuple[str, ...] = ("crack",)

    def detect(self, image: Image) -> Detections:
        return found(0.25)

    def heatmap(self, image: Image) -> np.ndarray:
        return np.zeros(image.shape[:2], np.float32)


def test_a_photo_of_a_fold_has_its_own_detections_and_a_new_one_is_searched() -> None:
    record = ImageRecord(1, Path("a.png"), "a.png", 8, 8)
    searched = Searched(Dataset(("crack",), (record,)), lambda *_: (found(0.75), None))
    finders = OutOfFoldFinders(random_segmenter(), None, searched, None, New)
    image = np.zeros((8, 8, 3), np.uint8)
    scores = []
    for own in (record, None):
        detections = finders._detections(own, image)
        assert detections is not None
        assert detections.scores is not None
        scores += detections.scores.tolist()
    assert scores == [0.75, 0.25]
    without = OutOfFoldFinders(random_segmenter(), None, None, None)
    assert without._detections(None, image) is None
