from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.boxes import as_boxes
from pipeline.types import Detections
from pipeline.visualization.overlays import overlay

IMAGE = np.zeros((60, 160, 3), np.uint8)


def text_pixels(x0: int) -> int:
    """Pixels above a box at row 40 that its text changes."""
    found = Detections(as_boxes([[x0, 40, x0 + 8, 50]]), np.array([0]), np.array([0.5], np.float32))
    return int((overlay(IMAGE, found, ["blowhole"])[:38] > 0).any(axis=2).sum())


def test_an_image_without_objects_is_its_own_copy() -> None:
    drawn = overlay(IMAGE, Detections.none(), ["blowhole"])
    assert drawn is not IMAGE
    assert np.array_equal(drawn, IMAGE)


@pytest.mark.parametrize("x0", [60, 120, 152])
def test_the_text_of_a_box_near_the_right_edge_is_whole(x0: int) -> None:
    assert text_pixels(x0) == text_pixels(20) > 300
