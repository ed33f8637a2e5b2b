from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from pipeline.metrics.operating_points import ImageOutcome
from pipeline.trust.fit import MaskTable, calibrate_found, cross_missed
from pipeline.trust.missed import fit_missed, score_figures
from pipeline.trust.regression import fit_logistic, fit_probability


def masks(count: int, seed: int = 0) -> MaskTable:
    """Two masks a photo. A label is a defect with the probability of its score, and the IoU of a
    defect is 0.8 or so."""
    generator = np.random.default_rng(seed)
    score = generator.uniform(-3, 3, count)
    is_defect = generator.uniform(size=count) < expit(score)
    iou = np.where(is_defect, generator.uniform(0.7, 0.9, count), 0.0)
    noise = generator.uniform(size=count).astype(np.float32)
    columns = {"box_score": score.astype(np.float32), "noise": noise}
    groups = tuple(str(n // 2) for n in range(count))
    return MaskTable(columns, iou, is_defect, groups, ("a",) * count)


def test_too_few_masks_or_photos_have_no_calibration() -> None:
    assert calibrate_found(masks(0)) is None
    assert calibrate_found(masks(18)) is None
    assert calibrate_found(replace(masks(40), groups=("a",) * 40)) is None


def test_false_alarms_lower_what_is_expected() -> None:
    """The mean of what is expected is that of the truth, where calibrations on true masks alone
    expect 0.8 everywhere."""
    table = masks(600)
    found = calibrate_found(table)
    assert found is not None
    assert found.tested_iou.mean() == pytest.approx(table.iou.mean(), abs=0.02)
    for low, high in ((-3, -1), (-1, 1), (1, 3)):  # and in each range of scores
        rows = (table.columns["box_score"] >= low) & (table.columns["box_score"] < high)
        assert found.tested_iou[rows].mean() == pytest.approx(table.iou[rows].mean(), abs=0.08)
        share = table.is_defect[rows].mean()
        assert found.tested_probability[rows].mean() == pytest.approx(share, abs=0.08)


def test_no_photo_speaks_for_itself() -> None:
    """Another answer planted on a photo changes what is expected of others, and not of its own."""
    table = masks(60)
    own = np.array(table.groups) == "7"
    planted = replace(table, iou=np.where(own, 1 - table.iou, table.iou))
    planted = replace(planted, is_defect=np.where(own, ~table.is_defect, table.is_defect))
    before, after = calibrate_found(table), calibrate_found(planted)
    assert before is not None
    assert after is not None
    assert after.tested_iou[own].tolist() == before.tested_iou[own].tolist()
    assert after.tested_probability[own].tolist() == before.tested_probability[own].tolist()
    assert not np.allclose(after.tested_iou[~own], before.tested_iou[~own])


def test_a_regression_of_one_figure_finds_its_curve() -> None:
    x = np.linspace(-2, 2, 4000).astype(np.float32)
    fit = fit_logistic({"x": x}, expit(0.5 + 1.5 * x).tolist(), ["a"] * 4000)
    at = np.array([-1, 0, 1], np.float32)
    assert fit.expected_iou({"x": at}, ["a"] * 3) == pytest.approx(expit(0.5 + 1.5 * at), abs=0.03)


def test_flags_that_are_all_alike_keep_a_doubt() -> None:
    """Ten of ten: (10 + 1) / (10 + 2)."""
    fit = fit_probability({"x": np.zeros(10, np.float32)}, [1.0] * 10, ["a"] * 10)
    expected = fit.expected_iou({"x": np.zeros(1, np.float32)}, ["a"])
    assert expected[0] == pytest.approx(11 / 12, abs=0.02)


def test_a_faint_detection_is_a_sign_of_a_missed_defect() -> None:
    """Images with a detection just below the confidence miss a defect, the others do not."""
    faint = [ImageOutcome(f"f{n}", (0.9, 0.2), (), (0.9, 0.2 + n / 200)) for n in range(10)]
    clear = [ImageOutcome(f"c{n}", (0.9,), (), (0.9, 0.01)) for n in range(10)]
    fit = fit_missed([*faint, *clear], 0.3)
    assert fit is not None
    figures = score_figures([(0.9, 0.21), (0.9, 0.02), ()], 0.3)
    likely, unlikely, _ = fit.expected_iou(figures, [""] * 3)
    assert likely > 0.6
    assert unlikely < 0.4
    tested = cross_missed([*faint, *clear], 0.3)
    assert tested is not None
    assert tested[1].tolist() == [True] * 10 + [False] * 10
    assert fit_missed(faint[:9], 0.3) is None
