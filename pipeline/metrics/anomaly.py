"""Anomaly scores and heat maps against the truth: AUROC, AP, F1-max, and AUPRO.

Pixels are counted by value (`pixel_counts`). The tests compare the figures with scikit-learn's and
with an AUPRO that goes threshold by threshold, to 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.intervals import bootstrap_draws, percentile_interval
from pipeline.metrics.pixel_counts import Counts, Curve, Pair, ValueBins, count_pixels

Interval = tuple[float, float]
_FPR_LIMIT = 0.3  # Bergmann et al., "MVTec AD", IJCV 2021, section 5.1
_NAN = float("nan")


@dataclass(frozen=True)
class Ranking:
    """How well scores separate defective images from good ones. Each in [0, 1]; NaN where all
    images are of one class.

    threshold: the score from which an image is defective, for the best F1.
    """

    auroc: float
    average_precision: float
    f1_max: float
    threshold: float
    auroc_interval: Interval


@dataclass(frozen=True)
class PixelFigures:
    """The same of pixels. Intervals are bootstrapped over whole images.

    aupro: the mean share of each connected defect that is marked, integrated over the thresholds at
    which up to 30 % of the good pixels of ALL images are marked, divided by 0.3 (Bergmann et al.
    2021).
    """

    auroc: float
    average_precision: float
    f1_max: float
    threshold: float
    aupro: float
    auroc_interval: Interval
    aupro_interval: Interval


@dataclass(frozen=True, kw_only=True)
class AnomalyScores:
    """Figures of images and of pixels, rounded to four digits. None for a figure that is not
    defined."""

    image_auroc: float | None = None
    image_auroc_interval: Interval | None = None
    image_ap: float | None = None
    image_f1_max: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None
    aupro_interval: Interval | None = None
    pixel_ap: float | None = None
    pixel_f1_max: float | None = None


def anomaly_scores(images: Ranking, pixels: PixelFigures | None) -> AnomalyScores:
    """The figures of a model; `pixels` is None for one without maps."""
    scores = AnomalyScores(
        image_auroc=_rounded(images.auroc),
        image_auroc_interval=_rounded_interval(images.auroc_interval),
        image_ap=_rounded(images.average_precision),
        image_f1_max=_rounded(images.f1_max),
    )
    if pixels is None:
        return scores
    return replace(
        scores,
        pixel_auroc=_rounded(pixels.auroc),
        aupro=_rounded(pixels.aupro),
        aupro_interval=_rounded_interval(pixels.aupro_interval),
        pixel_ap=_rounded(pixels.average_precision),
        pixel_f1_max=_rounded(pixels.f1_max),
    )


def ranking(scores: Sequence[float], defective: Sequence[bool], seed: int = 0) -> Ranking:
    """Figures of (N,) scores, higher for defective, against (N,) truths. Raises ValueError for a
    score that is not finite."""
    values, truth = np.asarray(scores, np.float64), np.asarray(defective, bool)
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite")
    if not len(values):
        return Ranking(_NAN, _NAN, _NAN, _NAN, (_NAN, _NAN))
    levels, at = np.unique(-values, return_inverse=True)
    positive = np.bincount(at[truth], minlength=len(levels)).astype(float)
    negative = np.bincount(at[~truth], minlength=len(levels)).astype(float)
    best = _best(positive, negative)
    draws = bootstrap_draws(len(values), seed)
    both = np.zeros((2, len(draws), len(levels)))
    for row, weights in enumerate(draws):
        both[0, row] = np.bincount(at, weights * truth, minlength=len(levels))
        both[1, row] = np.bincount(at, weights * ~truth, minlength=len(levels))
    auroc = float(_auroc(positive, negative))
    return Ranking(
        auroc,
        _average_precision(positive, negative),
        best[0],
        -float(levels[best[1]]),
        percentile_interval(_auroc(both[0], both[1]), auroc, len(values)),
    )


def pixel_figures(pairs: Iterable[Pair], seed: int = 0) -> PixelFigures:
    """Figures of heat maps (H, W), higher where defective, against masks (H, W); None is all good.

    `pairs` is iterated three times. Raises ValueError for a generator, for a mask of another size
    and for values that are not finite.
    """
    if iter(pairs) is pairs:
        raise ValueError("pairs must be a list, or another iterable that is no generator")
    scale = ValueBins(pairs)
    total, by_image = count_pixels(pairs, scale)
    positive, negative, region = total
    best = _best(positive, negative)
    draws = bootstrap_draws(len(by_image.positive), seed)
    drawn = Counts(*(draws @ part for part in by_image))
    auroc, aupro = float(_auroc(positive, negative)), float(_aupro(region, negative))
    aurocs = _auroc(drawn.positive, drawn.negative)
    aupros = _aupro(drawn.region, drawn.negative)
    return PixelFigures(
        auroc,
        _average_precision(positive, negative),
        best[0],
        scale.value(best[1]),
        aupro,
        percentile_interval(aurocs, auroc, len(draws[0])),
        percentile_interval(aupros, aupro, len(draws[0])),
    )


def _auroc(positive: Curve, negative: Curve) -> NDArray[np.float64]:
    """AUROC of counts (..., K), highest value first; equal values count half."""
    wrong = negative.sum(axis=-1) * positive.sum(axis=-1)
    below = negative.sum(axis=-1, keepdims=True) - np.cumsum(negative, axis=-1) + negative / 2
    won = (positive * below).sum(axis=-1)
    return np.asarray(np.divide(won, wrong, out=np.full_like(won, _NAN), where=wrong > 0))


def _average_precision(positive: Curve, negative: Curve) -> float:
    if not positive.sum() or not negative.sum():  # any ranking would be perfect
        return _NAN
    right = np.cumsum(positive)
    marked = right + np.cumsum(negative)
    precision = np.divide(right, marked, out=np.zeros_like(right), where=marked > 0)
    return float((positive * precision).sum() / right[-1])


def _best(positive: Curve, negative: Curve) -> tuple[float, int]:
    """The best F1, and the lowest bin that it marks."""
    if not positive.sum() or not negative.sum():
        return _NAN, 0
    right = np.cumsum(positive)
    f1 = 2 * right / (right[-1] + right + np.cumsum(negative))
    return float(f1.max()), int(f1.argmax())


def _aupro(region: Curve, negative: Curve) -> NDArray[np.float64]:
    """Area under the mean share of regions (..., K) over the false positive rate, to 0.3."""
    good = negative.sum(axis=-1, keepdims=True)
    regions = region.sum(axis=-1, keepdims=True)
    columns = negative.shape[-1]
    if negative.ndim == 1 and good > 0:  # beyond the limit nothing counts
        passed = int(np.searchsorted(np.cumsum(negative), _FPR_LIMIT * good[0]))
        columns = min(columns, passed + 1)
    region, negative = region[..., :columns], negative[..., :columns]
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = np.cumsum(negative, axis=-1) / good
        share = np.cumsum(region, axis=-1) / regions
    before_rate = np.concatenate([np.zeros_like(good), rate[..., :-1]], axis=-1)
    before_share = np.concatenate([np.zeros_like(good), share[..., :-1]], axis=-1)
    width = np.clip(_FPR_LIMIT - before_rate, 0, None)
    step = rate - before_rate
    part = np.divide(width, step, out=np.ones_like(step), where=step > width)
    taken = step * part
    area = taken * (before_share + (share - before_share) * part / 2)
    aupro = area.sum(axis=-1) / _FPR_LIMIT
    return np.where((good[..., 0] > 0) & (regions[..., 0] > 0), aupro, _NAN)


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)


def _rounded_interval(interval: Interval) -> Interval | None:
    if np.isnan(interval).any():
        return None
    return round(interval[0], 4), round(interval[1], 4)
