"""Which images would teach most: doubtful ones, unlike what is known and each other."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.models.segmentation.defect_map import DefectMap
from pipeline.proposals.teaching import choose, doubt_of
from pipeline.types import Detections


def plane(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_of_equal_doubts_the_one_unlike_the_known_comes_first_then_one_unlike_both() -> None:
    """Known is (0, 0). Distances are 1, 1, 10, 10.1 and 10: the usual one is 10, and twins at (10,
    0) teach the same."""
    vectors = plane((0, 1), (1, 0), (10, 0), (10.1, 0), (0, 10))
    choice = choose(np.full(5, 0.5), vectors, plane((0, 0)), 3)
    assert choice.rows[:2] == (3, 4)
    assert choice.unlike[3] == pytest.approx(1.01)


def test_of_images_that_are_equally_unlike_the_doubtful_one_comes_first() -> None:
    vectors = plane((1, 0), (0, 1), (-1, 0))
    choice = choose(np.array([0.1, 0.9, 0.5]), vectors, plane((0, 0)), 5)
    assert choice.rows == (1, 2, 0)


def test_without_a_known_image_the_most_doubtful_one_begins() -> None:
    choice = choose(np.array([0.1, 0.9]), plane((0, 0), (5, 5)), np.zeros((0, 2), np.float32), 1)
    assert choice.rows == (1,)


def map_of(value: int) -> DefectMap:
    """A block of 20 x 20 pixels of one value; all else is 0."""
    defect = np.zeros((40, 40), np.uint8)
    defect[:20, :20] = value
    return DefectMap(defect, np.zeros_like(defect), 1)


def labels_of(*expected: float) -> Detections:
    boxes = np.tile(np.array([0, 0, 4, 4], np.float32), (len(expected), 1))
    quality = {"expected_iou": np.array(expected, np.float32)}
    return Detections(boxes, np.zeros(len(expected), np.int64), quality=quality)


def test_doubt_joins_what_may_be_missed_with_what_may_be_wrong() -> None:
    """1 - (1 - 0.2) * 0.9 * 0.5 = 0.64."""
    doubt = doubt_of(labels_of(0.9, 0.5), 0.2, map_of(0))
    assert doubt.share == pytest.approx(0.64)
    assert (doubt.missed, doubt.worst) == (0.2, 0.5)


def test_a_clear_map_leaves_no_doubt_and_a_grey_one_does() -> None:
    """400 pixels at 128 of 255 are wrong by half: 199 of 201 + 100."""
    assert doubt_of(Detections.none(), None, map_of(0)).share == pytest.approx(0.02)
    assert doubt_of(Detections.none(), None, map_of(255)).share == pytest.approx(0.02)
    wrong, likely = 400 * 127 / 255, 400 * 128 / 255
    found = doubt_of(Detections.none(), None, map_of(128)).share
    assert found == pytest.approx(wrong / (likely + 100))
