"""Logistic regression of shares and of probabilities, with what a mask's calibration has: figures,
and an offset for each category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pipeline.models.sam.calibration import Calibration, Table, unfitted

_PENALTIES = (1.0, 3.0, 10.0)
_STEPS = 30


def fit_logistic(table: Table, target: Sequence[float], categories: Sequence[str]) -> Calibration:
    """Logistic regression with a ridge, for targets in [0, 1]: the fitted mean is that of the
    targets, also where most of them are 0 (Papke and Wooldridge 1996, fractional logit). The
    weights are the mean over many penalties, as in `calibration.calibrate`.

    table: named columns (N,). categories: of each row. Raises ValueError for fewer than two rows.
    """
    empty = unfitted(table, categories)
    rows, values = empty.rows(table, categories), np.asarray(target, np.float64)
    weights = np.mean([_newton(rows, values, penalty) for penalty in _PENALTIES], axis=0)
    return replace(empty, weights=weights)


def fit_probability(table: Table, flags: Sequence[float], categories: Sequence[str]) -> Calibration:
    """Logistic regression of flags, 0 or 1. They are a little off both, so that a fit to flags that
    are all alike keeps a doubt (Platt 1999)."""
    positive = sum(flags)
    high, low = (positive + 1) / (positive + 2), 1 / (len(flags) - positive + 2)
    return fit_logistic(table, [high if flag else low for flag in flags], categories)


def _newton(
    rows: NDArray[np.float64], target: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    """The weights of the lowest penalised cross entropy. The constant is free."""
    ridge = np.full(rows.shape[1], penalty)
    ridge[0] = 1e-6
    weights = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        mean = expit(rows @ weights)
        gradient = rows.T @ (mean - target) + ridge * weights
        curvature = (rows * np.maximum(mean * (1 - mean), 1e-6)[:, None]).T @ rows
        step = np.linalg.solve(curvature + np.diag(ridge), gradient)
        weights = weights - step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return weights
