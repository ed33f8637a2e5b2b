"""How well the expected IoU and the probabilities of found labels hold, on unseen photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.intervals import bootstrap_mean, bootstrap_rank_correlation, rank_correlation
from pipeline.metrics.operating_points import MeanInterval


@dataclass(frozen=True, kw_only=True)
class FoundScore:
    """Masks of boxes that a detector found, on photos that nothing learned from; a false alarm has
    an IoU of 0.

    mask_iou: their true IoU. error: mean distance of the expected IoU from it. rank: Spearman's
    correlation of both; None where it is not defined. Each with its 95 % interval over photos.
    """

    masks: int
    photos: int
    false_alarms: int
    mask_iou: MeanInterval
    expected: float
    error: MeanInterval
    rank: MeanInterval | None = None


@dataclass(frozen=True, kw_only=True)
class ProbabilityScore:
    """How well a probability holds. mean: of the probabilities. share: of the cases in which it was
    so. brier: mean squared distance. chance: the same, where each probability is the share."""

    count: int
    mean: float
    share: float
    brier: float
    chance: float


def found_score(
    expected: NDArray[np.floating], true: NDArray[np.floating], groups: Sequence[str]
) -> FoundScore:
    """expected, true: (N,) IoU of masks. groups: photos of one object share a name."""
    pairs = expected.tolist(), true.tolist()
    return FoundScore(
        masks=len(true),
        photos=len(set(groups)),
        false_alarms=int((true == 0).sum()),
        mask_iou=_mean(true, groups),
        expected=round(float(expected.mean()), 4),
        error=_mean(np.abs(expected - true), groups),
        rank=_rank(*pairs, groups),
    )


def probability_score(
    probability: NDArray[np.floating], flags: NDArray[np.bool_]
) -> ProbabilityScore:
    """probability: (N,). flags: (N,) whether it was so."""
    share = float(flags.mean())
    return ProbabilityScore(
        count=len(flags),
        mean=round(float(probability.mean()), 4),
        share=round(share, 4),
        brier=round(float(np.square(probability - flags).mean()), 4),
        chance=round(share * (1 - share), 4),
    )


def _mean(values: NDArray[np.floating], groups: Sequence[str]) -> MeanInterval:
    low, high = bootstrap_mean(values.tolist(), groups=groups)
    return round(float(values.mean()), 4), round(low, 4), round(high, 4)


def _rank(
    expected: Sequence[float], true: Sequence[float], groups: Sequence[str]
) -> MeanInterval | None:
    rank = rank_correlation(expected, true)
    if np.isnan(rank):
        return None
    low, high = bootstrap_rank_correlation(expected, true, groups)
    return round(rank, 4), round(low, 4), round(high, 4)
