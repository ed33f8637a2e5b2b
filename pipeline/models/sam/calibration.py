"""The expected IoU of a mask: figures of SAM's predictions, and a calibration on unseen masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from scipy.special import expit, logit

from pipeline.geometry.boxes import as_boxes, iou
from pipeline.geometry.patches import Patch
from pipeline.geometry.polygons import patch_iou
from pipeline.models.cards import CalibrationCard
from pipeline.types import EXPECTED_IOU, Masks

_OFFSET = 1.0  # logits; segment-anything's automatic mask generator uses the same
_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_IOU_LIMITS = (0.02, 0.98)  # IoU beyond which the logit is too large
_MAX_DEVIATIONS = 3.0  # deviations at which a figure is clipped
_CATEGORY_SCALE = 2.0  # a category's offset is shrunk to zero as if it were half as large


Table = Mapping[str, NDArray[np.float32]]  # named columns (N,)


class Prediction(Protocol):
    """A mask's logits (h, w) at the image's scale, and SAM's own estimate of its IoU."""

    @property
    def logits(self) -> NDArray[np.float32]: ...
    @property
    def predicted_iou(self) -> float: ...


def measures(
    patch: Patch,
    prediction: Prediction,
    box: NDArray[np.float32],
    size: tuple[int, int],
    views: Sequence[Patch],
    jittered: Sequence[Patch],
) -> dict[str, float]:
    """Figures in [0, 1] of one mask that has pixels.

    predicted_iou: SAM's own. stability: IoU between thresholds one logit above and below.
    confidence: the expected IoU if SAM's probabilities were true. multiview_agreement and
    jitter_agreement: mean IoU with the masks of single views and of jittered boxes (1 where there
    are none). fill: mask to box. tightness: IoU of the mask's box with the prompt.
    extent: the box's longer side to the image's. elongation: the box's shorter side to its longer.
    """
    inner, outer = (int((prediction.logits > t).sum()) for t in (_OFFSET, -_OFFSET))
    probability = expit(prediction.logits)
    foreground = prediction.logits > 0
    inside, outside = float(probability[foreground].sum()), float(probability[~foreground].sum())
    width, height = max(float(box[2] - box[0]), 1e-6), max(float(box[3] - box[1]), 1e-6)
    figures = {
        "predicted_iou": prediction.predicted_iou,
        "stability": inner / max(outer, 1),
        "confidence": inside / max(int(foreground.sum()) + outside, 1e-6),
        "multiview_agreement": _agreement(patch, views),
        "jitter_agreement": _agreement(patch, jittered),
        "fill": patch.area / (width * height),
        "tightness": float(iou(as_boxes(patch.box), as_boxes(box))[0, 0]),
        "extent": max(width, height) / max(size),
        "elongation": min(width, height) / max(width, height),
    }
    return {name: min(max(float(value), 0.0), 1.0) for name, value in figures.items()}


def quality_table(figures: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.float32]]:
    """`measures` of every mask as named columns (N,); 0 for a mask that has none."""
    names = list(next((row for row in figures if row), ("predicted_iou", "stability")))
    return {name: np.array([row.get(name, 0.0) for row in figures], np.float32) for name in names}


def _agreement(patch: Patch, others: Sequence[Patch]) -> float:
    return float(np.mean([patch_iou(patch, other) for other in others])) if others else 1.0


@dataclass(frozen=True)
class Calibration:
    """The expected IoU of a mask, from its figures and its category: logistic regression, fitted
    to masks of photos that the model did not learn from.

    names: the figures. centre, spread: (F,) of each. categories: K, because some are outlined
    more freely than others. weights: (1 + F + K,). masks: how many it was fitted to.
    """

    names: tuple[str, ...]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    categories: tuple[str, ...]
    weights: NDArray[np.float64]
    masks: int

    def expected_iou(
        self, table: Mapping[str, NDArray[np.float32]], categories: Sequence[str]
    ) -> NDArray[np.float32]:
        """(N,) in [0, 1] from named columns (N,) and the category of each. An unknown category
        counts as the mean of the known ones."""
        return np.asarray(expit(self.rows(table, categories) @ self.weights), np.float32)

    def add_expected_iou(self, masks: Masks, categories: Sequence[str]) -> Masks:
        """The masks with the column `expected_iou`, 0 for those that failed."""
        if not len(masks.masks) or not set(self.names) <= masks.quality.keys():
            expected = np.zeros(len(masks.masks), np.float32)
        else:
            expected = np.where(masks.failed, 0, self.expected_iou(masks.quality, categories))
        column = {EXPECTED_IOU: np.asarray(expected, np.float32)}
        return replace(masks, quality={**masks.quality, **column})

    def rows(
        self, table: Mapping[str, NDArray[np.float32]], categories: Sequence[str]
    ) -> NDArray[np.float64]:
        """(N, 1 + F + K): a constant, the figures, and the category. No squares: fitted to a few
        dozen masks they rank unseen masks worse."""
        columns = np.stack([table[name] for name in self.names], axis=1).astype(np.float64)
        figures = np.clip((columns - self.centre) / self.spread, -_MAX_DEVIATIONS, _MAX_DEVIATIONS)
        one_hot = [
            [_CATEGORY_SCALE * (name == own) for own in self.categories] for name in categories
        ]
        offsets = np.array(one_hot, np.float64).reshape(len(columns), len(self.categories))
        return np.concatenate([np.ones((len(columns), 1)), figures, offsets], axis=1)

    def to_json(self) -> dict[str, JsonValue]:
        """What `from_card` reads."""
        return {
            "names": list(self.names),
            "centre": self.centre.tolist(),
            "spread": self.spread.tolist(),
            "categories": list(self.categories),
            "weights": self.weights.tolist(),
            "masks": self.masks,
        }

    @classmethod
    def from_card(cls, card: CalibrationCard) -> Calibration:
        """The calibration that `to_json` wrote into a card."""
        centre, spread, weights = (
            np.asarray(row, np.float64) for row in (card.centre, card.spread, card.weights)
        )
        names, categories = tuple(card.names), tuple(card.categories)
        return cls(names, centre, spread, categories, weights, card.masks)


Fit = Callable[[Table, Sequence[float], Sequence[str]], Calibration]


def calibrate(
    table: Mapping[str, NDArray[np.float32]], true_iou: Sequence[float], categories: Sequence[str]
) -> Calibration:
    """Fit by ridge regression of the IoU's logit. The weights are the mean over many penalties: a
    few dozen masks do not tell the best one, and choosing it by out-of-fold masks ranks new masks
    worse.

    table: named columns (N,). categories: of each mask. Raises ValueError for fewer than two
    masks.
    """
    empty = unfitted(table, categories)
    rows = empty.rows(table, categories)
    target = logit(np.clip(np.asarray(true_iou, np.float64), *_IOU_LIMITS))
    weights = np.mean([_ridge(rows, target, penalty) for penalty in _PENALTIES], axis=0)
    return replace(empty, weights=weights)


def unfitted(table: Mapping[str, NDArray[np.float32]], categories: Sequence[str]) -> Calibration:
    """A calibration with the scales of these columns, and without weights. The category "" is none.
    Raises ValueError for fewer than two masks."""
    if len(categories) < 2:
        raise ValueError("a calibration needs at least two masks")
    names = tuple(sorted(table))
    columns = np.stack([table[name] for name in names], axis=1).astype(np.float64)
    centre, spread = columns.mean(axis=0), np.maximum(columns.std(axis=0), 1e-3)
    distinct = tuple(sorted({*categories} - {""}))
    return Calibration(names, centre, spread, distinct, np.zeros(0), len(categories))


def cross_expected(
    table: Mapping[str, NDArray[np.float32]],
    true_iou: Sequence[float],
    groups: Sequence[str],
    categories: Sequence[str],
    fit: Fit = calibrate,
) -> NDArray[np.float32]:
    """(N,): the expected IoU of each mask by a calibration on other groups' masks, in ten folds;
    NaN where too few are left.

    groups: pictures of one object share a name. The rest as in `calibrate`.
    """
    folds = np.unique(np.asarray(groups), return_inverse=True)[1] % 10
    iou, named = np.asarray(true_iou), np.asarray(categories)
    expected = np.full(len(iou), np.nan, np.float32)
    for fold in np.unique(folds):
        test = folds == fold
        if (~test).sum() < 2:
            continue
        rest = {name: column[~test] for name, column in table.items()}
        own = {name: column[test] for name, column in table.items()}
        fitted = fit(rest, iou[~test].tolist(), named[~test].tolist())
        expected[test] = fitted.expected_iou(own, named[test].tolist())
    return expected


def _ridge(
    rows: NDArray[np.float64], target: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    shrink = np.eye(rows.shape[1]) * penalty
    shrink[0, 0] = 1e-9  # the constant is free
    return np.asarray(np.linalg.solve(rows.T @ rows + shrink, rows.T @ target))
