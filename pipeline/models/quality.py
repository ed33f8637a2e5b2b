"""How far a mask can be trusted: figures of SAM's answers, and the IoU they let one expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from pipeline.geometry.boxes import as_boxes, iou
from pipeline.geometry.patches import Patch
from pipeline.geometry.polygons import patch_iou

_OFFSET = 1.0  # logits; segment-anything's automatic mask generator uses the same
_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_LIMITS = (0.02, 0.98)  # IoU beyond which the logit would run away


class Answer(Protocol):
    """A mask's logits (h, w) at the image's scale, and SAM's own estimate of its IoU."""

    @property
    def logits(self) -> NDArray[np.float32]: ...
    @property
    def predicted_iou(self) -> float: ...


def measures(
    patch: Patch,
    answer: Answer,
    box: NDArray[np.float32],
    size: tuple[int, int],
    looks: Sequence[Patch],
    tried: Sequence[Patch],
) -> dict[str, float]:
    """Figures in [0, 1] of one mask that has pixels.

    predicted_iou: SAM's own. stability: IoU between thresholds one logit above and below.
    confidence: the IoU to expect if SAM's probabilities were true. look_agreement and
    jitter_agreement: mean IoU with the masks of single looks and of moved boxes (1 where there are
    none). fill: mask to box. tightness: IoU of the mask's box with the prompt. extent: the box's
    longer side to the image's. elongation: the box's shorter side to its longer.
    """
    inner, outer = (int((answer.logits > t).sum()) for t in (_OFFSET, -_OFFSET))
    likely = expit(answer.logits)
    chosen = answer.logits > 0
    inside, outside = float(likely[chosen].sum()), float(likely[~chosen].sum())
    width, height = max(float(box[2] - box[0]), 1e-6), max(float(box[3] - box[1]), 1e-6)
    found = {
        "predicted_iou": answer.predicted_iou,
        "stability": inner / max(outer, 1),
        "confidence": inside / max(int(chosen.sum()) + outside, 1e-6),
        "look_agreement": _agreement(patch, looks),
        "jitter_agreement": _agreement(patch, tried),
        "fill": patch.area / (width * height),
        "tightness": float(iou(as_boxes(patch.box), as_boxes(box))[0, 0]),
        "extent": max(width, height) / max(size),
        "elongation": min(width, height) / max(width, height),
    }
    return {name: min(max(float(value), 0.0), 1.0) for name, value in found.items()}


def quality_table(figures: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.float32]]:
    """`measures` of every mask as named columns (N,); 0 for a mask that has none."""
    names = list(next((row for row in figures if row), ("predicted_iou", "stability")))
    return {name: np.array([row.get(name, 0.0) for row in figures], np.float32) for name in names}


def _agreement(patch: Patch, others: Sequence[Patch]) -> float:
    return float(np.mean([patch_iou(patch, other) for other in others])) if others else 1.0


@dataclass(frozen=True)
class Calibration:
    """The IoU to expect of a mask, from its figures: a logistic curve over their sum, each with a
    weight, fitted to masks that the model had not learned from.

    names: the figures. centre, spread: (F,) of each. weights: (1 + F,). masks: how many it was
    fitted to.
    """

    names: tuple[str, ...]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    weights: NDArray[np.float64]
    masks: int

    def expected_iou(self, table: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """(N,) in [0, 1] from named columns (N,)."""
        columns = np.stack([table[name] for name in self.names], axis=1).astype(np.float64)
        rows = _terms((columns - self.centre) / self.spread)
        return np.asarray(expit(rows @ self.weights), np.float32)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "names": list(self.names),
            "centre": self.centre.tolist(),
            "spread": self.spread.tolist(),
            "weights": self.weights.tolist(),
            "masks": self.masks,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Calibration:
        """Undo `to_json`."""
        centre, spread, weights = (
            np.asarray(raw[key], np.float64) for key in ("centre", "spread", "weights")
        )
        return cls(tuple(raw["names"]), centre, spread, weights, int(raw["masks"]))


def calibrate(
    table: Mapping[str, NDArray[np.float32]], true_iou: Sequence[float], groups: Sequence[str]
) -> Calibration:
    """Fit by ridge regression of the IoU's logit; the penalty that predicts left-out groups best.

    table: named columns (N,). groups: pictures of one object share a name. Raises ValueError for
    fewer than two masks.
    """
    if len(true_iou) < 2:
        raise ValueError("a calibration needs at least two masks")
    names = tuple(sorted(table))
    columns = np.stack([table[name] for name in names], axis=1).astype(np.float64)
    centre, spread = columns.mean(axis=0), np.maximum(columns.std(axis=0), 1e-3)
    rows = _terms((columns - centre) / spread)
    clipped = np.clip(np.asarray(true_iou, np.float64), *_LIMITS)
    target = logit(clipped)
    folds = np.unique(np.asarray(groups), return_inverse=True)[1] % 10

    def error(penalty: float) -> float:
        total = 0.0
        for fold in np.unique(folds):
            held = folds == fold
            if held.all():
                return float("inf")
            weights = _ridge(rows[~held], target[~held], penalty)
            guess = expit(rows[held] @ weights)
            total += float(((guess - clipped[held]) ** 2).sum())
        return total

    penalty = min(_PENALTIES, key=lambda value: (error(value), -value))
    return Calibration(names, centre, spread, _ridge(rows, target, penalty), len(true_iou))


def _terms(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """A constant and the columns, which are held beyond three deviations. No squares: from a few
    dozen masks they learn noise, and rank masks they have not seen worse."""
    return np.concatenate([np.ones((len(columns), 1)), np.clip(columns, -3, 3)], axis=1)


def _ridge(
    rows: NDArray[np.float64], target: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    shrink = np.eye(rows.shape[1]) * penalty
    shrink[0, 0] = 1e-9  # the constant is free
    return np.asarray(np.linalg.solve(rows.T @ rows + shrink, rows.T @ target))
