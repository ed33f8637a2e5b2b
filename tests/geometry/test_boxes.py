from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import boxes

sides = st.floats(0, 500, width=32)
rows = st.lists(st.tuples(sides, sides, sides, sides), max_size=6)


def test_no_boxes_stay_no_boxes_in_every_form() -> None:
    none = boxes.as_boxes([])
    assert none.shape == (0, 4)
    assert boxes.xyxy_to_xywh(none).shape == (0, 4)
    assert boxes.xyxy_to_yolo(none, 10, 10).shape == (0, 4)
    assert boxes.iou(none, none).shape == (0, 0)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0, 0, 0, 0], [0, 0, 0, 0], 0.0),  # nothing shares nothing
        ([0, 0, 4, 2], [0, 0, 4, 2], 1.0),
        ([0, 0, 4, 4], [2, 0, 6, 4], 1 / 3),  # 8 shared of 16 + 16 - 8
        ([0, 0, 2, 2], [2, 0, 4, 2], 0.0),  # half-open: they touch, but share no pixel
    ],
)
def test_iou_counts_shared_over_united_area(
    first: list[float], second: list[float], expected: float
) -> None:
    found = boxes.iou(boxes.as_boxes([first]), boxes.as_boxes([second]))
    assert found[0, 0] == pytest.approx(expected)


def test_yolo_form_is_centre_and_size_over_the_image() -> None:
    # (20, 10) to (26, 14) on 64 x 48: centre 23/64, 12/48; size 6/64, 4/48
    found = boxes.xyxy_to_yolo(boxes.as_boxes([[20, 10, 26, 14]]), 48, 64)
    assert found[0] == pytest.approx([23 / 64, 0.25, 6 / 64, 4 / 48])


def test_whole_pixels_hold_the_box_and_stay_inside_the_image() -> None:
    box = np.array([-3.2, 1.5, 4.1, 99.0], dtype=np.float32)
    assert boxes.whole_pixels(box, height=8, width=10) == (0, 1, 5, 8)


@given(rows)
def test_xywh_and_back_changes_nothing_that_float32_can_hold(
    values: list[tuple[float, ...]],
) -> None:
    given_boxes = boxes.as_boxes(values)
    returned = boxes.xywh_to_xyxy(boxes.xyxy_to_xywh(given_boxes))
    assert np.allclose(returned, given_boxes, atol=1e-3)
