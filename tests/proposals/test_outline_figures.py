"""Figures of outlines on maps that are counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit

from pipeline.geometry.patches import Patch, tight
from pipeline.models.segmentation.defect_map import DefectMap
from pipeline.proposals.figures import as_logit, outline_figures

NO_PIXELS = Patch(0, 0, np.zeros((0, 0), bool))
LEVEL = 128


def drawn(*blocks: tuple[int, int, int, int, int], size: tuple[int, int] = (60, 400)) -> DefectMap:
    """A map of blocks x0, y0, x1, y1 with a value."""
    defect = np.zeros(size, np.uint8)
    for x0, y0, x1, y1, value in blocks:
        defect[y0:y1, x0:x1] = value
    return DefectMap(defect, np.zeros(size, np.uint8), 1)


def block(x0: int, y0: int, x1: int, y1: int) -> Patch:
    return Patch(x0, y0, np.ones((y1 - y0, x1 - x0), bool))


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0, logit(0.002)), (0.002, logit(0.002)), (0.5, 0), (0.75, np.log(3)), (1, logit(0.998))],
)
def test_a_share_is_its_logit_within_limits(share: float, expected: float) -> None:
    assert as_logit(share) == pytest.approx(expected)


def test_a_mask_without_a_pixel_has_the_least_of_all_figures() -> None:
    figures = outline_figures(drawn((0, 0, 4, 4, 255)), NO_PIXELS, None, LEVEL)
    assert figures["iou_near"] == figures["iou_far"] == pytest.approx(logit(0.002))


def test_a_steep_outline_is_sure() -> None:
    figures = outline_figures(drawn((2, 2, 12, 12, 255)), block(2, 2, 12, 12), None, LEVEL)
    assert figures == {
        "iou_near": pytest.approx(logit(0.998)),
        "iou_far": pytest.approx(logit(0.998)),
        "steep_low": 1.0,
        "steep_high": 1.0,
    }


def test_pixels_count_with_their_probability() -> None:
    """A mask of 100 pixels, of which 51/255 = 0.2 are a defect in each of the 100 beside it:
    100 / (100 + 20)."""
    found = drawn((2, 2, 12, 12, 255), (12, 2, 22, 12, 51))
    figures = outline_figures(found, block(2, 2, 12, 12), None, LEVEL)
    assert figures["iou_near"] == pytest.approx(logit(100 / 120))
    assert figures["steep_low"] == 1.0  # 0.2 is below the lowest level


def test_levels_between_say_how_faint_an_outline_is() -> None:
    """200 pixels above 0.25, 100 above 0.5, 50 above 0.75."""
    found = drawn((0, 0, 10, 5, 255), (0, 5, 10, 10, 150), (10, 0, 20, 10, 100))
    figures = outline_figures(found, block(0, 0, 10, 10), None, LEVEL)
    assert (figures["steep_low"], figures["steep_high"]) == (0.5, 0.5)


def test_another_region_counts_in_the_wider_ring_alone() -> None:
    """100 pixels of the mask, 100 of another region 5 pixels away; one 150 pixels away counts
    nowhere."""
    found = drawn((100, 2, 110, 12, 255), (115, 2, 125, 12, 255), (260, 2, 270, 12, 255))
    figures = outline_figures(found, block(100, 2, 110, 12), None, LEVEL)
    assert figures["iou_near"] == pytest.approx(logit(0.998))
    assert figures["iou_far"] == pytest.approx(logit(100 / 200))


def test_what_a_mask_leaves_of_its_own_region_counts() -> None:
    """SAM's mask holds 60 of the 100 pixels of its region."""
    found = drawn((2, 2, 12, 12, 255))
    figures = outline_figures(found, block(2, 2, 8, 12), block(2, 2, 12, 12), LEVEL)
    assert figures["iou_near"] == pytest.approx(logit(60 / 100))
    alone = outline_figures(found, block(2, 2, 8, 12), None, LEVEL)
    assert alone["iou_near"] == pytest.approx(logit(0.998))  # 40 are another region's


@pytest.mark.parametrize("x", [0, 390])
def test_a_mask_at_the_border_has_the_same_figures(x: int) -> None:
    found = drawn((x, 0, x + 10, 10, 200))
    figures = outline_figures(found, block(x, 0, x + 10, 10), None, LEVEL)
    middle = outline_figures(drawn((150, 20, 160, 30, 200)), block(150, 20, 160, 30), None, LEVEL)
    assert figures == middle


def test_a_mask_of_any_form_counts_its_own_pixels() -> None:
    pixels = np.zeros((60, 400), bool)
    pixels[10:20, 10:20] = ~np.eye(10, dtype=bool)
    figures = outline_figures(drawn((10, 10, 20, 20, 255)), tight(pixels), None, 256)
    assert figures["iou_near"] == pytest.approx(logit(90 / 100))
