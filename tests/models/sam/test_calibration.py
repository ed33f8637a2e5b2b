from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from pipeline.geometry.masks import encode
from pipeline.geometry.patches import Patch
from pipeline.models.cards import CalibrationCard
from pipeline.models.sam.calibration import Calibration, calibrate, cross_expected, measures
from pipeline.models.sam.merge_views import MaskLogits
from pipeline.types import Masks


def square(x: int, side: int) -> Patch:
    return Patch(x, 0, np.ones((side, side), bool))


def test_figures_of_a_mask_by_hand() -> None:
    """Logits of 4 rows: two sure (9), one near (0.5), one out (-9); 4 columns each."""
    logits = np.repeat(np.array([[9.0], [9.0], [0.5], [-9.0]], np.float32), 4, axis=1)
    cut = MaskLogits(0, 0, logits, 1.2, [])
    patch = Patch(0, 0, logits[:3] > 0)
    box = np.array([0, 0, 4, 4], np.float32)
    found = measures(patch, cut, box, (40, 20), [patch], [Patch(0, 0, np.ones((4, 4), bool))])
    assert found["predicted_iou"] == 1.0  # clipped to 1
    assert found["stability"] == pytest.approx(8 / 12)  # above 1: 8 pixels; above -1: 12
    assert found["confidence"] == pytest.approx((8 + 4 * 0.62246) / 12, abs=1e-3)
    assert found["multiview_agreement"] == 1.0
    assert found["jitter_agreement"] == pytest.approx(12 / 16)
    assert found["fill"] == pytest.approx(12 / 16)
    assert found["tightness"] == pytest.approx(12 / 16)
    assert found["extent"] == pytest.approx(4 / 40)
    assert found["elongation"] == 1.0


KINDS = ("crack", "stain")


def masks_of(count: int) -> tuple[dict[str, np.ndarray], np.ndarray, list[str], list[str]]:
    """IoU is a logistic curve of one figure; the other, and the category, are noise."""
    generator = np.random.default_rng(0)
    good, noise = generator.uniform(size=(2, count))
    iou = np.clip(1 / (1 + np.exp(1 - 4 * good)) + generator.normal(0, 0.03, count), 0, 1)
    return (
        {"good": good.astype(np.float32), "noise": noise.astype(np.float32)},
        iou,
        [str(n // 2) for n in range(count)],
        [KINDS[n % 2] for n in range(count)],
    )


def test_the_expected_iou_ranks_masks_it_has_not_seen() -> None:
    table, iou, _, categories = masks_of(200)
    half = {name: column[:100] for name, column in table.items()}
    fitted = calibrate(half, iou[:100].tolist(), categories[:100])
    rest = {name: column[100:] for name, column in table.items()}
    expected = fitted.expected_iou(rest, categories[100:])
    assert np.corrcoef(expected, iou[100:])[0, 1] > 0.95
    assert np.abs(expected - iou[100:]).mean() < 0.05


def test_a_calibration_is_the_same_when_read_back() -> None:
    table, iou, _, categories = masks_of(40)
    fitted = calibrate(table, iou.tolist(), categories)
    back = Calibration.from_card(CalibrationCard.model_validate(fitted.to_json()))
    assert (back.expected_iou(table, categories) == fitted.expected_iou(table, categories)).all()


def test_a_kind_that_is_outlined_freely_is_trusted_less_and_an_unknown_one_is_between() -> None:
    """The IoU's logit is lower by 1.5 for stains than for cracks of the same figures."""
    table, iou, _, categories = masks_of(800)  # so many that shrinking takes little
    worse = expit(logit(iou.clip(0.02, 0.98)) - 1.5 * (np.array(categories) == "stain"))
    fitted = calibrate(table, worse.tolist(), categories)
    one = {name: np.full(3, column.mean(), np.float32) for name, column in table.items()}
    crack, other, stain = fitted.expected_iou(one, ["crack", "dent", "stain"])
    assert logit(crack) - logit(stain) == pytest.approx(1.5, abs=0.15)
    assert stain < other < crack


def test_each_group_is_expected_by_the_others_alone() -> None:
    table, iou, groups, categories = masks_of(40)
    expected = cross_expected(table, iou.tolist(), groups, categories)
    assert np.corrcoef(expected, iou)[0, 1] > 0.9
    first = np.array(groups) == groups[0]
    changed = np.where(first, 1 - iou, iou)  # what a group's own masks are says nothing of them
    again = cross_expected(table, changed.tolist(), groups, categories)
    assert (again[first] == expected[first]).all()
    assert not (again[~first] == expected[~first]).all()


def test_one_group_expects_nothing_of_itself() -> None:
    table, iou, _, categories = masks_of(4)
    assert np.isnan(cross_expected(table, iou.tolist(), ["a"] * 4, categories)).all()


def test_masks_get_what_is_expected_of_them_and_failed_ones_nothing() -> None:
    table, iou, _, categories = masks_of(40)
    fitted = calibrate(table, iou.tolist(), categories)
    two = {name: column[:2] for name, column in table.items()}
    empty = encode(np.zeros((4, 4), bool))
    made = fitted.add_expected_iou(
        Masks((empty, empty), np.array([False, True]), two), categories[:2]
    )
    wanted = float(fitted.expected_iou(two, categories[:2])[0])
    assert made.quality["expected_iou"].tolist() == [pytest.approx(wanted), 0.0]
    none = fitted.add_expected_iou(Masks((), np.zeros(0, bool), {}), [])
    assert len(none.quality["expected_iou"]) == 0


def test_a_figure_that_never_varies_does_no_harm() -> None:
    table, iou, _, categories = masks_of(40)
    table["constant"] = np.ones(40, np.float32)
    fitted = calibrate(table, iou.tolist(), categories)
    assert np.isfinite(fitted.expected_iou(table, categories)).all()


def test_masks_far_from_all_that_was_seen_get_a_finite_expectation() -> None:
    table, iou, _, categories = masks_of(40)
    strange = {"good": np.array([1e6], np.float32), "noise": np.array([-1e6], np.float32)}
    expected = calibrate(table, iou.tolist(), categories).expected_iou(strange, ["crack"])
    assert 0 <= float(expected[0]) <= 1


def test_one_mask_calibrates_nothing() -> None:
    with pytest.raises(ValueError, match="at least two"):
        calibrate({"a": np.ones(1, np.float32)}, [0.5], ["crack"])
