"""Regions of a defect map."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.masks import decode
from pipeline.models.segmentation.defect_map import (
    DefectMap,
    RegionOptions,
    as_detections,
    regions,
)

ALL = RegionOptions(0.5, 0, 1)


def drawn(
    *parts: tuple[int, int, int, int, int, int], size: tuple[int, int] = (20, 30)
) -> DefectMap:
    """Parts: x0, y0, x1, y1, the probability times 255, and the category."""
    defect, category = np.zeros(size, np.uint8), np.zeros(size, np.uint16)
    for x0, y0, x1, y1, value, label in parts:
        defect[y0:y1, x0:x1], category[y0:y1, x0:x1] = value, label
    return DefectMap(defect, category, 400)


@pytest.mark.parametrize("size", [(20, 30), (1, 1)])
def test_a_map_without_a_defect_has_no_region(size: tuple[int, int]) -> None:
    found = drawn(size=size)
    assert regions(found, ALL) == []
    assert len(as_detections(found, [])) == 0
    assert as_detections(found, []).masks == ()
    assert not found.heatmap().any()


def test_a_region_has_the_mean_the_peak_and_the_votes_of_its_pixels() -> None:
    """4 pixels of 255 and 2 of 153 (0.6): mean (4 + 1.2) / 6; the second category has 1.2 of 5.2
    votes."""
    (region,) = regions(drawn((2, 2, 4, 4, 255, 399), (4, 2, 5, 4, 153, 7)), ALL)
    assert region.mean == pytest.approx(5.2 / 6)
    assert region.peak == 1.0
    assert region.label == 399
    assert region.shares[7] == pytest.approx(1.2 / 5.2)
    assert region.shares.sum() == pytest.approx(1)
    assert region.patch.box == (2, 2, 5, 4)


@pytest.mark.parametrize(("value", "count"), [(127, 0), (128, 1)])
def test_a_pixel_counts_from_the_threshold_on(value: int, count: int) -> None:
    """0.5 x 255 = 127.5, rounded to 128."""
    assert len(regions(drawn((2, 2, 4, 4, value, 0)), ALL)) == count


def test_a_low_threshold_never_takes_what_is_certainly_good() -> None:
    assert regions(drawn(), RegionOptions(0.001, 0, 1)) == []


@pytest.mark.parametrize(("gap", "count"), [(0, 2), (2, 2), (3, 1)])
def test_parts_are_one_region_across_a_gap_and_no_pixel_is_added(gap: int, count: int) -> None:
    """Columns 2 and 3, and 7 and 8: three pixels lie between them."""
    found = drawn((2, 2, 4, 4, 255, 0), (7, 2, 9, 4, 255, 0))
    parts = regions(found, RegionOptions(0.5, gap, 1))
    assert len(parts) == count
    assert sum(part.patch.area for part in parts) == 8


@pytest.mark.parametrize(("least", "areas"), [(1, [1, 9]), (2, [9]), (10, [])])
def test_regions_below_the_least_area_are_left_out(least: int, areas: list[int]) -> None:
    found = drawn((2, 2, 3, 3, 255, 0), (10, 10, 13, 13, 255, 0))
    assert [part.patch.area for part in regions(found, RegionOptions(0.5, 0, least))] == areas


def test_a_clear_outline_has_an_edge_of_1_and_a_faint_one_less() -> None:
    """The second has 204 (0.8) beside 102 (0.4) all around: 0.4."""
    clear, faint = regions(
        drawn((2, 2, 7, 7, 255, 0), (13, 3, 26, 16, 102, 0), (17, 7, 22, 12, 204, 0)), ALL
    )
    assert clear.edge == pytest.approx(1.0)
    assert faint.edge == pytest.approx(0.4, abs=0.01)


def test_a_region_may_be_the_whole_image() -> None:
    found = drawn((0, 0, 30, 20, 255, 1))
    (region,) = regions(found, ALL)
    assert region.patch.area == 600
    assert region.mean == 1.0


def test_detections_have_the_regions_pixels_boxes_and_means() -> None:
    found = drawn((2, 3, 5, 7, 255, 1), (10, 10, 13, 13, 204, 2))
    objects = as_detections(found, regions(found, ALL))
    assert objects.masks is not None
    assert objects.scores is not None
    assert objects.boxes.tolist() == [[2, 3, 5, 7], [10, 10, 13, 13]]
    assert objects.labels.tolist() == [1, 2]
    assert objects.scores.tolist() == pytest.approx([1.0, 0.8])
    assert (decode(objects.masks[0]) == ((found.defect > 0) & (found.category == 1))).all()


def test_the_best_outline_is_that_of_the_highest_expected_iou() -> None:
    """A core of 4 pixels at 1.0 in a rim of 12 at 0.4 (102 of 255). The core alone shares 4 with
    4 + 12 x 0.4 = 8.8 expected pixels: 0.45. Both share 8.8 with 16: 0.55, so the rim is in.
    At 0.2 (51 of 255) they would share 6.4 with 16, 0.4, and the core 4 with 6.4, 0.63."""
    for rim, area in ((102, 16), (51, 4)):
        defect = np.zeros((10, 12), np.uint8)
        defect[3:7, 4:8] = rim
        defect[4:6, 5:7] = 255
        found = DefectMap(defect, np.zeros((10, 12), np.uint8), 2)
        (part,) = regions(found, RegionOptions(0.5, 0, 1, best_outline=True))
        assert part.patch.area == area
        assert (part.patch.x, part.patch.y) == ((4, 3) if area == 16 else (5, 4))


def test_an_outline_stays_outside_of_other_regions_and_joins_what_it_touches_alone() -> None:
    """Two cores with a rim between them: each gets the rim, and not the other core. A part of the
    rim's level that touches neither is left out."""
    defect = np.zeros((6, 30), np.uint8)
    defect[2:4, 4:14] = 115
    defect[2:4, 4:7] = defect[2:4, 11:14] = 230
    defect[2:4, 20:22] = 115
    found = DefectMap(defect, np.zeros((6, 30), np.uint8), 2)
    parts = regions(found, RegionOptions(0.5, 0, 1, best_outline=True))
    assert [part.patch.box for part in parts] == [(4, 2, 11, 4), (7, 2, 14, 4)]


def test_outlines_of_pixels_at_the_border_stay_in_the_image() -> None:
    defect = np.zeros((3, 4), np.uint8)
    defect[0, 0] = defect[2, 3] = 200
    found = DefectMap(defect, np.zeros((3, 4), np.uint8), 1)
    parts = regions(found, RegionOptions(0.5, 0, 1, best_outline=True))
    assert [part.patch.box for part in parts] == [(0, 0, 1, 1), (3, 2, 4, 3)]
