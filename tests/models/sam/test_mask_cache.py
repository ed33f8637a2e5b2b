from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.io.disk_cache import DiskCache
from pipeline.models.sam.mask_cache import CachedSegmenter
from pipeline.types import Image, Masks


class Counting:
    """Fills boxes, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def segment(self, image: Image, boxes: Boxes, heatmap: object = None) -> Masks:
        self.calls += 1
        rles = tuple(mask_geometry.from_box(box, *image.shape[:2]) for box in boxes)
        column = np.linspace(0.1, 0.7, len(boxes)).astype(np.float32)
        return Masks(rles, np.zeros(len(boxes), bool), {"predicted_iou": column})


def test_the_same_question_is_answered_without_the_model_and_any_other_by_it(
    tmp_path: Path,
) -> None:
    image, boxes = np.zeros((20, 30, 3), np.uint8), as_boxes([[1, 2, 9, 8], [3, 3, 20, 19]])
    inner = Counting()
    first = CachedSegmenter(inner, DiskCache(tmp_path, 1 << 20), "a").segment(image, boxes)
    again = CachedSegmenter(inner, DiskCache(tmp_path, 1 << 20), "a").segment(image, boxes)
    assert inner.calls == 1
    assert again.masks == first.masks
    assert again.failed.tolist() == first.failed.tolist()
    assert (again.quality["predicted_iou"] == first.quality["predicted_iou"]).all()
    cached = CachedSegmenter(inner, DiskCache(tmp_path, 1 << 20), "a")
    cached.segment(image + 1, boxes)
    cached.segment(image, boxes + 1)
    cached.segment(image, boxes, np.zeros((20, 30), np.float32))
    CachedSegmenter(inner, DiskCache(tmp_path, 1 << 20), "b").segment(image, boxes)
    assert inner.calls == 5


def test_no_boxes_are_an_answer_too(tmp_path: Path) -> None:
    inner, image = Counting(), np.zeros((20, 30, 3), np.uint8)
    cached = CachedSegmenter(inner, DiskCache(tmp_path, 1 << 20), "a")
    assert cached.segment(image, as_boxes([])).masks == ()
    assert cached.segment(image, as_boxes([])).masks == ()
    assert inner.calls == 1
