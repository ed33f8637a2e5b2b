from __future__ import annotations

import numpy as np

from pipeline.geometry.hysteresis import without_tearing
from pipeline.geometry.patches import components


def scratch(*values: int) -> np.ndarray:
    """A line of pixels of these values, a black row above it and below."""
    rows = np.zeros((3, len(values)), np.uint8)
    rows[1] = values
    return rows


def test_a_thin_defect_that_a_threshold_tears_stays_one() -> None:
    soft = without_tearing(scratch(0, 200, 90, 200, 70, 200, 0), 127)
    assert (len(components(soft.pixels)), soft.torn, soft.joined) == (1, 3, 1)
    # cut at the greatest value that keeps it whole: all five pixels are above 69
    assert soft.pixels.sum() == 5


def test_a_defect_in_one_piece_keeps_its_edge_at_the_threshold() -> None:
    soft = without_tearing(scratch(60, 120, 255, 255, 120, 60, 0), 127)
    assert soft.pixels.sum() == 2
    assert (soft.torn, soft.joined) == (0, 0)


def test_specks_without_a_seed_go_and_faint_noise_joins_nothing() -> None:
    # 127 // 3 = 42: the bridge of 42 is a valley, the speck of 100 has no pixel above 127
    soft = without_tearing(scratch(200, 42, 200, 0, 100), 127)
    assert soft.pixels[1].tolist() == [True, False, True, False, False]


def test_a_threshold_of_0_takes_every_pixel() -> None:
    assert without_tearing(scratch(1, 0, 255), 0).pixels[1].tolist() == [True, False, True]
