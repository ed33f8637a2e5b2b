"""95 % confidence intervals of figures from few images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, rankdata, t


def wilson(right: int, total: int) -> tuple[float, float]:
    """Wilson's score interval for `right` of `total` (Wilson 1927); (0, 1) for none of none."""
    if total == 0:
        return 0.0, 1.0
    interval = binomtest(right, total).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_mean(
    values: Sequence[float],
    seed: int = 0,
    rounds: int = 2000,
    groups: Sequence[str] | None = None,
) -> tuple[float, float]:
    """Bootstrap interval of a mean, see `percentile_interval`; NaN for no values.

    groups: values of one name are drawn together, because errors on one photo are correlated
    (Field and Welsh 2007, the cluster bootstrap).
    """
    if not len(values):
        return float("nan"), float("nan")
    data = np.asarray(values, dtype=np.float64)
    names = np.arange(len(data)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, counts = np.bincount(names, data), np.bincount(names)
    drawn = _draw_groups(len(sums), seed, rounds)
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return percentile_interval(means, float(data.mean()), len(sums))


def percentile_interval(
    draws: NDArray[np.float64], estimate: float, count: int
) -> tuple[float, float]:
    """The 95 % interval of an estimate from its bootstrap draws (rounds,) of `count` groups.

    The percentiles of the draws (Efron 1979), at levels that are further out where groups are few:
    plain percentiles of 10 groups cover 90 %, not 95 % (Hesterberg 2015, the expanded percentile
    interval). It always holds the estimate. Draws of NaN are left out; NaN without any other.
    """
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return float("nan"), float("nan")
    level = 0.025
    if count > 1:
        level = float(norm.cdf((count / (count - 1)) ** 0.5 * t.ppf(level, count - 1)))
    low, high = np.quantile(defined, [level, 1 - level])
    return float(np.fmin(low, estimate)), float(np.fmax(high, estimate))


def _draw_groups(count: int, seed: int, rounds: int) -> NDArray[np.int64]:
    """(rounds, count): the groups of each draw of `count` groups, with replacement."""
    return np.random.default_rng(seed).integers(0, count, (rounds, count))


def bootstrap_draws(count: int, seed: int = 0, rounds: int = 500) -> NDArray[np.float64]:
    """(rounds, count): how often each of `count` items is in each draw of `count` (Efron 1979)."""
    if count == 0:
        return np.zeros((rounds, 0))
    generator = np.random.default_rng(seed)
    shares = np.full(count, 1 / count)
    return generator.multinomial(count, shares, size=rounds).astype(np.float64)


def bootstrap_rank_correlation(
    first: Sequence[float],
    second: Sequence[float],
    groups: Sequence[str],
    seed: int = 0,
    rounds: int = 1000,
) -> tuple[float, float]:
    """Bootstrap interval of Spearman's rho over groups, as in `bootstrap_mean`. Draws without a
    rho are left out; NaN where no draw has one."""
    pairs = np.stack([np.asarray(first, np.float64), np.asarray(second, np.float64)])
    names = np.unique(np.asarray(groups), return_inverse=True)[1]
    members = [np.flatnonzero(names == name) for name in range(names.max(initial=-1) + 1)]
    correlations = []
    for drawn in _draw_groups(len(members), seed, rounds) if members else ():
        sample = pairs[:, np.concatenate([members[group] for group in drawn])]
        correlations.append(rank_correlation(sample[0].tolist(), sample[1].tolist()))
    estimate = rank_correlation(first, second)
    return percentile_interval(np.array(correlations), estimate, len(members))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rho in [-1, 1]; NaN for fewer than three pairs or where one side is constant."""
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(two) == 0:
        return float("nan")
    ranks = np.stack([rankdata(one), rankdata(two)])
    return float(np.corrcoef(ranks)[0, 1])  # a tenth of the time of scipy's spearmanr
