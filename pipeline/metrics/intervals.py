"""How far a figure from few images can be trusted: 95 % confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest


def wilson(right: int, total: int) -> tuple[float, float]:
    """Wilson's score interval for `right` of `total` (Wilson 1927); (0, 1) for none of none."""
    if total == 0:
        return 0.0, 1.0
    interval = binomtest(right, total).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_mean(
    values: Sequence[float], seed: int = 0, rounds: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap of a mean (Efron 1979); NaN for no values."""
    if not len(values):
        return float("nan"), float("nan")
    data = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(data), (rounds, len(data)))
    low, high = np.percentile(data[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
