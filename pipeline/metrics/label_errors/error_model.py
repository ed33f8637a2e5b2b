"""How likely a label is wrong, and how: multinomial logistic regression on its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

Figures = NDArray[np.float64]
_PENALTY = 1.0  # of squared weights, on standardised figures
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class ErrorModel:
    """centre, spread: (F,) of the figures. weights: (1 + F, K), the first row of the constants."""

    centre: Figures
    spread: Figures
    weights: Figures

    def probabilities(self, figures: Figures) -> Figures:
        """(N, K) that sum to 1, of rows of figures (N, F)."""
        return np.asarray(softmax(self._rows(figures) @ self.weights, axis=1))

    def _rows(self, figures: Figures) -> Figures:
        scaled = np.clip((figures - self.centre) / self.spread, -4, 4)
        return np.concatenate([np.ones((len(scaled), 1)), scaled], axis=1)


def fit_error_model(
    figures: Figures, kinds: NDArray[np.int64], priors: Sequence[float]
) -> ErrorModel:
    """Fit by maximum likelihood with a ridge.

    figures: (N, F). kinds: (N,) in [0, K). priors: (K,) how frequent each kind is taken to be,
    whatever its share of the rows. A kind without rows keeps a probability of about 0.
    """
    count = len(priors)
    shares = np.bincount(kinds, minlength=count)
    present = np.where(shares > 0, np.asarray(priors, np.float64), 0)
    weights = (present / present.sum())[kinds] / shares[kinds] * len(kinds)
    centre = figures.mean(axis=0)
    spread = np.maximum(figures.std(axis=0), _LEAST_SPREAD)
    empty = ErrorModel(centre, spread, np.zeros((1 + figures.shape[1], count)))
    rows, one_hot = empty._rows(figures), np.eye(count)[kinds]

    def loss(flat: Figures) -> tuple[float, Figures]:
        parameters = flat.reshape(rows.shape[1], count)
        scores = rows @ parameters
        ridge = parameters.copy()
        ridge[0] = 0  # the constants are free
        value = -(weights[:, None] * one_hot * log_softmax(scores, axis=1)).sum()
        slope = rows.T @ (weights[:, None] * (softmax(scores, axis=1) - one_hot))
        total = value + _PENALTY / 2 * (ridge**2).sum()
        return float(total), np.asarray(slope + _PENALTY * ridge).ravel()

    fitted = minimize(loss, empty.weights.ravel(), jac=True, method="L-BFGS-B")
    return ErrorModel(centre, spread, fitted.x.reshape(rows.shape[1], count))


def cross_probabilities(
    figures: Figures,
    kinds: NDArray[np.int64],
    groups: NDArray[np.int64],
    priors: Sequence[float],
    wanted: NDArray[np.bool_],
    fold_count: int = 5,
) -> Figures:
    """(N, K): the probabilities of the `wanted` rows (N,), each by a model of other groups (N,);
    zeros for other rows, and where no other group is left."""
    folds = np.unique(groups, return_inverse=True)[1] % fold_count
    result = np.zeros((len(figures), len(priors)))
    for fold in np.unique(folds):
        train, test = folds != fold, (folds == fold) & wanted
        if train.any() and test.any():
            model = fit_error_model(figures[train], kinds[train], priors)
            result[test] = model.probabilities(figures[test])
    return result
