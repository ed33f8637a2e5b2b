from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.metrics.anomaly import pixel_figures, ranking


def test_no_images_have_no_figures() -> None:
    figures = ranking([], [])
    assert np.isnan([figures.auroc, figures.average_precision, figures.f1_max]).all()
    assert np.isnan(pixel_figures([]).aupro)


@pytest.mark.parametrize("defective", [False, True])
def test_images_of_one_class_have_no_figures_for_any_ranking_is_perfect(defective: bool) -> None:
    images = ranking([1.0, 2.0], [defective] * 2)
    assert np.isnan([images.auroc, images.average_precision, images.f1_max]).all()
    mask = np.ones((2, 2), bool) if defective else None
    pixels = pixel_figures([(np.ones((2, 2)), mask)])
    assert np.isnan([pixels.auroc, pixels.average_precision, pixels.f1_max, pixels.aupro]).all()


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        ranking([1.0, float("nan")], [True, False])
    with pytest.raises(ValueError, match="not finite"):
        pixel_figures([(np.full((2, 2), np.inf), None)])


def test_a_mask_of_another_size_and_a_generator_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) for a mask of \(3, 3\)"):
        pixel_figures([(np.ones((2, 2)), np.ones((3, 3), bool))])
    with pytest.raises(ValueError, match="no generator"):
        pixel_figures(pair for pair in [(np.ones((2, 2)), None)])


def test_four_images_by_hand() -> None:
    """Defective 0.9 and 0.4, good 0.5 and 0.1: of four pairs three are in order. F1: at 0.4 two
    of three are right and none is missed: 2*2 / (2*2 + 1) = 0.8."""
    figures = ranking([0.9, 0.5, 0.4, 0.1], [True, False, True, False])
    assert (figures.auroc, figures.f1_max, figures.threshold) == (0.75, 0.8, 0.4)
    assert figures.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert figures.auroc_interval[0] <= 0.75 <= figures.auroc_interval[1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=40))
def test_figures_of_images_are_scikit_learns_with_ties_too(rows: list[tuple[int, bool]]) -> None:
    from sklearn import metrics  # slow to import

    scores, truth = [float(score) for score, _ in rows], [bad for _, bad in rows]
    figures = ranking(scores, truth)
    if any(truth) and not all(truth):
        assert figures.average_precision == pytest.approx(
            metrics.average_precision_score(truth, scores), abs=1e-9
        )
        assert figures.auroc == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-9)


def aupro_by_thresholds(maps: list[np.ndarray], masks: list[np.ndarray]) -> float:
    """The definition, one threshold after another, as MVTec's evaluation code does: regions touch
    at corners too, and the curve is cut at 0.3 by a straight line."""
    values = np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]
    labelled = [ndimage.label(mask, np.ones((3, 3)))[0] for mask in masks]
    good = sum(int((~mask).sum()) for mask in masks)
    rates, shares = [0.0], [0.0]
    for value in values:
        wrong = sum(int(((m >= value) & ~k).sum()) for m, k in zip(maps, masks, strict=True))
        parts = [
            float((m[lab == n] >= value).mean())
            for m, lab in zip(maps, labelled, strict=True)
            for n in range(1, lab.max() + 1)
        ]
        rates.append(wrong / good)
        shares.append(float(np.mean(parts)))
    grid = np.array([rate for rate in rates if rate < 0.3] + [0.3])
    kept = np.array(shares[: len(grid) - 1])
    nxt = len(kept)
    last = kept[-1] + (shares[nxt] - kept[-1]) * (0.3 - rates[nxt - 1]) / (
        rates[nxt] - rates[nxt - 1]
    )
    return float(np.trapezoid(np.append(kept, last), grid) / 0.3)


def scene(seed: int, sharp: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Three 24 x 30 maps with two regions that touch at a corner, a third, and none; one value is
    far above all others."""
    generator = np.random.default_rng(seed)
    masks = [np.zeros((24, 30), bool) for _ in range(3)]
    masks[0][2:6, 3:9] = True
    masks[0][6:9, 9:12] = True
    masks[0][15:20, 20:22] = True
    masks[1][4:18, 10:14] = True
    maps = [generator.normal(mask * sharp, 1).astype(np.float32) for mask in masks]
    maps[2][0, 0] = 1e4
    return maps, masks


@pytest.mark.parametrize(("seed", "sharp"), [(0, 0.0), (1, 1.0), (2, 3.0), (3, -1.0)])
def test_figures_of_pixels_are_scikit_learns_and_aupro_is_its_definition(
    seed: int, sharp: float
) -> None:
    from sklearn import metrics  # slow to import

    maps, masks = scene(seed, sharp)
    pairs = [(m, k if k.any() else None) for m, k in zip(maps, masks, strict=True)]
    figures = pixel_figures(pairs)
    truth = np.concatenate([mask.ravel() for mask in masks])
    values = np.concatenate([m.ravel() for m in maps])
    precision, recall, levels = metrics.precision_recall_curve(truth, values)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert figures.auroc == pytest.approx(metrics.roc_auc_score(truth, values), abs=1e-6)
    assert figures.average_precision == pytest.approx(
        metrics.average_precision_score(truth, values), abs=1e-6
    )
    assert figures.f1_max == pytest.approx(f1.max(), abs=1e-6)
    assert figures.threshold == pytest.approx(levels[f1.argmax()], abs=1e-3)
    assert figures.aupro == pytest.approx(aupro_by_thresholds(maps, masks), abs=1e-6)
    low, high = figures.auroc_interval
    assert low <= figures.auroc <= high


def test_a_constant_map_ranks_at_random() -> None:
    """Every threshold marks all or nothing: AUROC 0.5, and the straight line to (0.3, 0.3) has an
    area of 0.045, 0.15 of 0.3."""
    mask = np.zeros((4, 4), bool)
    mask[0, 0] = True
    figures = pixel_figures([(np.ones((4, 4)), mask)])
    assert figures.auroc == 0.5
    assert figures.aupro == pytest.approx(0.15)
