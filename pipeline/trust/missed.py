"""The probability that the labels of an image miss a defect, from the scores of its detections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import logit

from pipeline.metrics.operating_points import ImageOutcome
from pipeline.models.sam.calibration import Calibration, Table
from pipeline.trust.regression import fit_probability

_NONE = 0.001  # the score where there is no detection
MIN_IMAGES = 10


def score_figures(scores: Sequence[Sequence[float]], confidence: float) -> Table:
    """Figures (N,) of N images at a confidence: the logit of the highest score below it, those of
    the highest and the lowest score that is kept, and the logarithm of the number kept."""
    below = [[score for score in own if score < confidence] for own in scores]
    kept = [[score for score in own if score >= confidence] for own in scores]
    columns = {
        "highest_below": [max(own, default=_NONE) for own in below],
        "highest_kept": [max(own, default=_NONE) for own in kept],
        "lowest_kept": [min(own, default=_NONE) for own in kept],
    }
    figures = {
        name: logit(np.clip(np.array(column, np.float64), _NONE, 1 - _NONE)).astype(np.float32)
        for name, column in columns.items()
    }
    return {**figures, "kept": np.log1p([len(own) for own in kept]).astype(np.float32)}


def is_missed(outcome: ImageOutcome, confidence: float) -> bool:
    """Whether a defect of the image has no label that is kept."""
    return any(score < confidence for score in outcome.found_at)


def fit_missed(outcomes: Sequence[ImageOutcome], confidence: float) -> Calibration | None:
    """A logistic regression of whether an image has a missed defect, on `score_figures`. None for
    fewer than ten groups."""
    if len({outcome.group for outcome in outcomes}) < MIN_IMAGES:
        return None
    table = score_figures([outcome.scores for outcome in outcomes], confidence)
    missed = [float(is_missed(outcome, confidence)) for outcome in outcomes]
    return fit_probability(table, missed, [""] * len(outcomes))
