"""Paired tests of models that were cross-validated on the same folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import t as student


def corrected_t_test(differences: Sequence[float], tested_share: float) -> float:
    """Two-sided p of the mean of (J,) differences, one for each fold of each repeat. tested_share:
    the share of all images that a fold tests on.

    Folds share most of their training images, so their differences vary less than those of new
    data would. The variance is multiplied by 1/J + n_test/n_train (Nadeau and Bengio 2003; for
    repeated k-fold, Bouckaert and Frank 2004). 1 where all are 0; NaN for fewer than two.
    """
    values = np.asarray(differences, np.float64)
    if len(values) < 2:
        return float("nan")
    mean, variance = values.mean(), values.var(ddof=1)
    if variance == 0:
        return 1.0 if mean == 0 else 0.0
    scale = 1 / len(values) + tested_share / (1 - tested_share)
    return float(2 * student.sf(abs(mean) / np.sqrt(scale * variance), len(values) - 1))


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """p values adjusted for several tests, by name (Holm 1979)."""
    adjusted: dict[str, float] = {}
    worst = 0.0
    for rank, name in enumerate(sorted(values, key=lambda key: values[key])):
        worst = max(worst, min(1.0, (len(values) - rank) * values[name]))
        adjusted[name] = worst
    return {name: adjusted[name] for name in values}


def shots(counts: Mapping[str, int], few: int, many: int) -> dict[str, str]:
    """`few` for categories with at most `few` training images, `many` for at least `many`,
    `medium` between (Liu et al., "Large-Scale Long-Tailed Recognition", CVPR 2019)."""
    return {
        name: "few" if count <= few else "many" if count >= many else "medium"
        for name, count in counts.items()
    }
