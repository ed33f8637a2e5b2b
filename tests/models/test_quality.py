from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.patches import Patch
from pipeline.models.cuts import Cut
from pipeline.models.quality import Calibration, calibrate, measures


def square(x: int, side: int) -> Patch:
    return Patch(x, 0, np.ones((side, side), bool))


def test_figures_of_a_mask_by_hand() -> None:
    """Logits of 4 rows: two sure (9), one near (0.5), one out (-9); 4 columns each."""
    logits = np.repeat(np.array([[9.0], [9.0], [0.5], [-9.0]], np.float32), 4, axis=1)
    cut = Cut(0, 0, logits, 1.2, [])
    patch = Patch(0, 0, logits[:3] > 0)
    box = np.array([0, 0, 4, 4], np.float32)
    found = measures(patch, cut, box, (40, 20), [patch], [Patch(0, 0, np.ones((4, 4), bool))])
    assert found["predicted_iou"] == 1.0  # held at 1
    assert found["stability"] == pytest.approx(8 / 12)  # above 1: 8 pixels; above -1: 12
    assert found["confidence"] == pytest.approx((8 + 4 * 0.62246) / 12, abs=1e-3)
    assert found["look_agreement"] == 1.0
    assert found["jitter_agreement"] == pytest.approx(12 / 16)
    assert found["fill"] == pytest.approx(12 / 16)
    assert found["tightness"] == pytest.approx(12 / 16)
    assert found["extent"] == pytest.approx(4 / 40)
    assert found["elongation"] == 1.0


def known(count: int) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    """IoU is a logistic curve of one figure; the other is noise."""
    generator = np.random.default_rng(0)
    good, noise = generator.uniform(size=(2, count))
    iou = np.clip(1 / (1 + np.exp(1 - 4 * good)) + generator.normal(0, 0.03, count), 0, 1)
    return (
        {"good": good.astype(np.float32), "noise": noise.astype(np.float32)},
        iou,
        [str(n // 2) for n in range(count)],
    )


def test_the_expected_iou_ranks_masks_it_has_not_seen() -> None:
    table, iou, groups = known(200)
    fitted = calibrate({k: v[:100] for k, v in table.items()}, iou[:100].tolist(), groups[:100])
    expected = fitted.expected_iou({k: v[100:] for k, v in table.items()})
    assert np.corrcoef(expected, iou[100:])[0, 1] > 0.95
    assert np.abs(expected - iou[100:]).mean() < 0.05


def test_a_calibration_is_the_same_when_read_back() -> None:
    table, iou, groups = known(40)
    fitted = calibrate(table, iou.tolist(), groups)
    back = Calibration.from_json(fitted.to_json())
    assert (back.expected_iou(table) == fitted.expected_iou(table)).all()


def test_a_figure_that_never_varies_does_no_harm() -> None:
    table, iou, groups = known(40)
    table["constant"] = np.ones(40, np.float32)
    assert np.isfinite(calibrate(table, iou.tolist(), groups).expected_iou(table)).all()


def test_masks_far_from_all_that_was_seen_get_a_finite_expectation() -> None:
    table, iou, groups = known(40)
    strange = {"good": np.array([1e6], np.float32), "noise": np.array([-1e6], np.float32)}
    expected = calibrate(table, iou.tolist(), groups).expected_iou(strange)
    assert 0 <= float(expected[0]) <= 1


def test_one_mask_calibrates_nothing() -> None:
    with pytest.raises(ValueError, match="at least two"):
        calibrate({"a": np.ones(1, np.float32)}, [0.5], ["x"])
