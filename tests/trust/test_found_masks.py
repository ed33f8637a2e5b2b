from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.geometry.masks import from_box
from pipeline.metrics.found_masks import true_ious
from pipeline.trust.found_masks import detection_figures, measure
from pipeline.types import Detections, Image, Masks

IMAGE = np.zeros((40, 40, 3), np.uint8)


@dataclass
class Filled:
    """A segmenter of filled boxes; those that start left of `fails` fail."""

    fails: float = -1

    def segment(
        self, image: Image, boxes: Boxes, heatmap: NDArray[np.float32] | None = None
    ) -> Masks:
        masks = tuple(from_box(box, 40, 40) for box in boxes)
        failed = np.array([box[0] < self.fails for box in boxes], bool)
        return Masks(masks, failed, {"fill": np.ones(len(boxes), np.float32)})


def detections(
    boxes: Sequence[Sequence[float]], labels: list[int], scores: list[float]
) -> Detections:
    return Detections(as_boxes(boxes), np.array(labels), np.array(scores, np.float32))


def truth(boxes: Sequence[Sequence[float]], labels: list[int]) -> Detections:
    masks = tuple(from_box(box, 40, 40) for box in as_boxes(boxes))
    return Detections(as_boxes(boxes), np.array(labels, np.int64), masks=masks)


def test_an_image_without_detections_has_no_masks_and_misses_its_defects() -> None:
    none = Detections(as_boxes([]), np.zeros(0, np.int64), np.zeros(0, np.float32))
    defect = truth([[0, 0, 10, 10]], [0])
    found = measure(IMAGE, none, defect, ("a",), "g", Filled(), 0.1, 20)
    assert found.masks == ()
    assert (found.outcome.found_at, found.outcome.false_at) == ((0.0,), ())


def test_each_true_mask_is_matched_once_in_the_order_of_scores() -> None:
    """Two masks on the first true one: the better one comes second, and gets nothing."""
    shared = np.array([[0.5, 0.0], [0.9, 0.0], [0.0, 0.3]])
    same = np.zeros(3, np.int64)
    scores = np.array([0.8, 0.7, 0.9], np.float32)
    assert true_ious(shared, same, same[:2], scores).tolist() == [0.5, 0.0, 0.3]
    other = np.array([1, 0, 0])  # the first is of another category, and the second takes its place
    assert true_ious(shared, other, same[:2], scores).tolist() == [0.0, 0.9, 0.3]


def test_a_false_alarm_counts_0_and_a_defect_is_found_at_its_highest_score() -> None:
    """True: 10 x 10. Found: its left half at 0.9, all of it at 0.5, nothing at 0.4; 0.02 is too
    faint for a mask, and 0.3 is one box too many."""
    boxes = [[0, 0, 10, 10], [0, 0, 5, 10], [30, 30, 40, 40], [0, 0, 9, 9], [20, 0, 30, 9]]
    found = detections(boxes, [0, 0, 0, 0, 0], [0.5, 0.9, 0.4, 0.02, 0.3])
    image = measure(IMAGE, found, truth([[0, 0, 10, 10]], [0]), ("a",), "g", Filled(), 0.05, 3)
    assert [mask.score for mask in image.masks] == pytest.approx([0.9, 0.5, 0.4])
    assert [mask.iou for mask in image.masks] == pytest.approx([0.5, 0, 0])
    assert [mask.is_defect for mask in image.masks] == [True, True, False]
    assert image.outcome.found_at == pytest.approx((0.9,))
    assert image.outcome.false_at == pytest.approx((0.4,))
    assert image.outcome.scores == pytest.approx((0.9, 0.5, 0.4, 0.3, 0.02))


def test_a_box_without_a_mask_is_a_false_label_but_no_mask_to_learn_from() -> None:
    found = detections([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 0], [0.9, 0.8])
    image = measure(IMAGE, found, Detections.none(), ("a",), "g", Filled(fails=5), 0.05, 20)
    assert [mask.score for mask in image.masks] == pytest.approx([0.8])
    assert image.outcome.false_at == pytest.approx((0.9, 0.8))


def test_a_box_that_is_left_out_for_its_score_changes_no_figure_of_the_others() -> None:
    """The second box repeats the first, the third is its rival, and the fourth lies alone."""
    boxes = [[0, 0, 10, 10], [0, 0, 9, 9], [0, 0, 9, 10], [30, 30, 40, 40]]
    found = detections(boxes, [0, 0, 1, 0], [0.9, 0.1, 0.2, 0.5])
    every = detection_figures(found)
    assert every["box_rank"] == pytest.approx(np.log1p([0, 3, 2, 1]))
    assert every["box_repeats"] == pytest.approx(np.log1p([0, 1, 0, 0]))
    assert every["box_rivals"] == pytest.approx(np.log1p([0, 1, 1, 0]))
    for name, column in detection_figures(found.select([0, 2, 3])).items():
        assert column.tolist() == every[name][[0, 2, 3]].tolist()
