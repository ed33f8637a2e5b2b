from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import strategies
from hypothesis import given, settings

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry import patches
from pipeline.metrics.fidelity import Comparison, box_fidelity, compare, mask_fidelity
from pipeline.metrics.fidelity_totals import FidelityTotals, FormatTotals, table_rows
from pipeline.types import Detections, ImageRecord

RECORD = ImageRecord(1, Path("a.png"), "a.png", 20, 20)


def block(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((20, 20), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def objects(*found: np.ndarray) -> Detections:
    return Detections.from_masks([mask_geometry.encode(mask) for mask in found], 0)


def test_nothing_compared_with_nothing_is_nothing() -> None:
    assert compare(Detections.none(), Detections.none(), 20, 20).rows == []
    assert FidelityTotals().by_format() == {}


def test_every_figure_of_a_mask_that_lost_its_hole() -> None:
    ring = block(2, 2, 12, 12)
    ring[5:9, 5:9] = False  # 100 - 16 = 84 pixels
    row = mask_fidelity(patches.tight(ring), patches.tight(block(2, 2, 12, 12)), 0.0, 20, 20)
    # boundary: 2 % of 28.3 px is 1: the ring's outer edge has 36 pixels and its inner one 20 (the
    # 6 x 6 around the hole less the hole), of which the block's edge shares 36 of 56
    assert row == (84 / 100, 36 / 56, 84, 100, 1, 1, 1, 0, 0.0)


@settings(max_examples=80, deadline=None)
@given(strategies.masks, strategies.masks)
def test_ious_are_those_of_full_frames(one: np.ndarray, two: np.ndarray) -> None:
    two = np.resize(two, one.shape)
    first, second = (mask_geometry.encode(mask) for mask in (one, two))
    row = mask_fidelity(patches.tight(one), patches.tight(two), 0.0, *one.shape)
    assert row.iou == pytest.approx(mask_geometry.paired_iou(first, second))
    assert row.boundary_iou == pytest.approx(mask_geometry.boundary_iou(first, second))


def test_boxes_are_compared_where_there_are_no_masks() -> None:
    same = box_fidelity(
        np.array([0, 0, 10, 10], np.float32), np.array([0, 0, 10, 10.004], np.float32)
    )
    assert same.iou == 1.0  # six digits of a text file
    half = box_fidelity(np.array([0, 0, 10, 10], np.float32), np.array([0, 0, 10, 5], np.float32))
    assert (half.iou, half.area, half.area_read, half.box_offset) == (0.5, 100, 50, 5.0)


def test_a_lost_object_has_iou_0_and_the_others_keep_their_partners() -> None:
    true = objects(block(0, 0, 4, 4), block(6, 6, 10, 10), block(12, 12, 16, 16))
    read = objects(block(12, 12, 16, 16), block(0, 0, 4, 4))
    found = compare(true, read, 20, 20)
    assert [row.iou for row in found.rows] == [1.0, 0.0, 1.0]
    assert true.masks is not None
    assert found.masks == [None, (true.masks[1], None), None]


def test_totals_add_up_and_name_the_worst_first() -> None:
    totals = FidelityTotals(worst=2)
    true = objects(block(0, 0, 10, 1), block(0, 2, 10, 3), block(0, 4, 10, 5))
    read = objects(block(0, 0, 8, 1), block(0, 2, 10, 3), block(0, 4, 5, 5))
    totals.add("x", RECORD, compare(true, read, 20, 20))
    totals.add("x", RECORD, Comparison([], []))
    row = totals.by_format()["x"]
    assert (row.instances, row.changed, row.lost) == (3, 2, 0)
    assert row.iou_mean == pytest.approx((0.8 + 1 + 0.5) / 3, abs=1e-6)
    assert (row.iou_median, row.iou_min) == (0.8, 0.5)
    assert (row.area, row.area_read) == (30, 23)
    assert row.box_offset_max == 5
    assert [(entry.row, entry.fidelity.iou) for entry in totals.worst] == [(2, 0.5), (0, 0.8)]
    assert totals.below(0.8) == 1


def test_a_format_without_objects_is_listed_with_none() -> None:
    totals = FidelityTotals()
    totals.add("x", RECORD, Comparison([], []))
    assert totals.by_format() == {"x": FormatTotals(instances=0)}


def test_a_table_has_a_row_for_each_object() -> None:
    found = compare(objects(block(0, 0, 4, 4)), objects(block(0, 0, 4, 4)), 20, 20)
    assert table_rows("coco", RECORD, found) == [
        ["coco", "a.png", "1", "1", "1", "16", "16", "1", "1", "0", "0", "0"]
    ]
