"""The category of each candidate, from what speaks for each category in it and elsewhere on its
photo: some products have a category for defects that come together (`combined` of MVTec AD).

Multinomial logistic regression, learned from candidates on photos that the finders did not learn
from, and used where it names more of them right than the finders alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.masks import Rle
from pipeline.models.sam.calibration import Table
from pipeline.proposals.candidates import Candidate
from pipeline.proposals.choices import NamingGain
from pipeline.proposals.figures import as_logit
from pipeline.types import Detections

NAMED = "named"  # the figure that says how sure the name is
_FOLDS = 10
_MOST_DEVIATIONS = 5.0
_NEVER = -30.0  # constant of a category that no candidate had
_LEAST = 20  # candidates on defects, to learn from

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Naming:
    """centre, spread: (F,) of each figure of `context`. weights: (C, 1 + F), the constant first."""

    centre: Numbers
    spread: Numbers
    weights: Numbers

    def named(self, rows: Sequence[Candidate]) -> list[Candidate]:
        """The candidates of one image, with the probability of each category as their shares."""
        if not rows:
            return []
        shares = softmax(_rows(context(rows), self.centre, self.spread) @ self.weights.T, axis=1)
        return [
            replace(row, shares=own, figures={**row.figures, NAMED: as_logit(float(own.max()))})
            for row, own in zip(rows, shares, strict=True)
        ]


def name_evidence(table: Table, names: Sequence[str]) -> tuple[Table, list[str]]:
    """The figures, and the category of each candidate, from which it is learned whether a name is
    right. Where a naming says how sure it is, this and the probability of a defect suffice: all
    figures and categories together would fit a few dozen names too closely."""
    if NAMED not in table:
        return table, list(names)
    return {name: table[name] for name in (NAMED, "map_mean")}, [""] * len(names)


def context(rows: Sequence[Candidate]) -> Numbers:
    """(N, 2 C + 3) of the candidates of one image: the shares of each category in it; in the
    others, each weighted by its probability of being a defect; and how many others there are: the
    logarithm of their expected number, whether there is one, and whether there are two."""
    shares = np.stack([row.shares / max(row.shares.sum(), 1e-9) for row in rows])
    likely = np.array([expit(row.figures["map_mean"]) for row in rows])
    weighted = np.stack([row.shares for row in rows]) * likely[:, None]
    others = weighted.sum(axis=0) - weighted
    count = np.log1p(np.maximum(likely.sum() - likely, 0))
    several = [np.full(len(rows), float(len(rows) > least)) for least in (1, 2)]
    return np.column_stack([shares, others, count, *several])


def fit_naming(figures: Numbers, labels: NDArray[np.int64], categories: int) -> Naming:
    """figures: (N, F). labels: (N,), the true ones. Raises ValueError without a row."""
    if not len(figures):
        raise ValueError("there is no candidate to learn from")
    centre, spread = figures.mean(axis=0), figures.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    rows = _rows(figures, centre, spread)
    known, own = np.unique(labels, return_inverse=True)
    truth = np.eye(len(known))[own]

    def loss(flat: Numbers) -> tuple[float, Numbers]:
        weights = flat.reshape(len(known), rows.shape[1])
        logs = log_softmax(rows @ weights.T, axis=1)
        gradient = (np.exp(logs) - truth).T @ rows
        gradient[:, 1:] += weights[:, 1:]  # a ridge of 1; the constant is free
        value = 0.5 * float((weights[:, 1:] ** 2).sum()) - float((logs * truth).sum())
        return value, gradient.ravel()

    start = np.zeros(len(known) * rows.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    weights = np.zeros((categories, rows.shape[1]))
    weights[:, 0] = _NEVER
    weights[known] = found.x.reshape(len(known), -1)
    return Naming(centre, spread, weights)


def name_out_of_fold(
    photos: Sequence[Sequence[Candidate]],
    truths: Sequence[Detections],
    groups: Sequence[str],
) -> tuple[list[list[Candidate]], NamingGain | None, Naming | None]:
    """The candidates of each photo, named by what those of other groups teach where that gains, the
    gain, and the naming that all of them teach. The gain is None where candidates are too few to
    try, and the naming where it does not gain more than the gain's standard error over groups."""
    plain = [list(rows) for rows in photos]
    labels = [true_labels(rows, truth) for rows, truth in zip(photos, truths, strict=True)]
    flat = np.concatenate([np.zeros(0, np.int64), *labels])
    if (flat >= 0).sum() < _LEAST or len(np.unique(flat[flat >= 0])) < 2:
        return plain, None, None
    categories = len(next(rows[0].shares for rows in photos if rows))
    fold_of = np.unique(np.asarray(groups), return_inverse=True)[1] % _FOLDS
    named = list(plain)
    for fold in np.unique(fold_of):
        own = [row for row, other in enumerate(fold_of) if other == fold]
        rest = [row for row, other in enumerate(fold_of) if other != fold]
        naming = _learned(photos, labels, rest, categories)
        for row in own:
            named[row] = naming.named(photos[row]) if naming else plain[row]
    right = [_right(rows, own) for rows, own in zip(named, labels, strict=True)]
    before = [_right(rows, own) for rows, own in zip(plain, labels, strict=True)]
    gains = [float(a.sum() - b.sum()) for a, b in zip(right, before, strict=True)]
    count = int((flat >= 0).sum())
    used = sum(gains) > _standard_error(gains, groups)
    gain = NamingGain(
        round(float(np.concatenate(before).sum()) / count, 4),
        round(float(np.concatenate(right).sum()) / count, 4),
        used,
    )
    if not used:
        return plain, gain, None
    return named, gain, _learned(photos, labels, range(len(photos)), categories)


def true_labels(rows: Sequence[Candidate], truth: Detections) -> NDArray[np.int64]:
    """(N,) the category of the true object with which each candidate shares most; -1 for none."""
    masks: list[Rle] = [row.mask(refined=False) for row in rows]
    shared = mask_geometry.iou(masks, truth.masks or ())
    if not shared.size:
        return np.full(len(rows), -1, np.int64)
    return np.where(shared.max(axis=1) > 0, truth.labels[shared.argmax(axis=1)], -1)


def _learned(
    photos: Sequence[Sequence[Candidate]],
    labels: Sequence[NDArray[np.int64]],
    which: Sequence[int],
    categories: int,
) -> Naming | None:
    """What some photos teach; None where none of their candidates is on a defect."""
    figures = [context(photos[row])[labels[row] >= 0] for row in which if len(photos[row])]
    own = [labels[row][labels[row] >= 0] for row in which if len(photos[row])]
    if not sum(map(len, own)):
        return None
    return fit_naming(np.concatenate(figures), np.concatenate(own), categories)


def _right(rows: Sequence[Candidate], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.array([row.label == label for row, label in zip(rows, labels, strict=True)], bool)


def _rows(figures: Numbers, centre: Numbers, spread: Numbers) -> Numbers:
    """(N, 1 + F): a constant and the standardised figures."""
    standard = np.clip((figures - centre) / spread, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)
    return np.column_stack([np.ones(len(figures)), standard])


def _standard_error(gains: Sequence[float], groups: Sequence[str]) -> float:
    """Of the sum over groups."""
    totals: dict[str, float] = {}
    for gain, group in zip(gains, groups, strict=True):
        totals[group] = totals.get(group, 0.0) + gain
    values = np.array([*totals.values()])
    return float(np.std(values, ddof=1) * len(values) ** 0.5) if len(values) > 1 else 0.0
