"""How well the expected IoU and the probabilities of found labels hold, on unseen photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline.geometry import masks as mask_geometry
from pipeline.io.read import checked, read_json
from pipeline.metrics.found_masks import TESTED_MASKS, TestedMask, true_ious
from pipeline.metrics.intervals import bootstrap_mean, bootstrap_rank_correlation, rank_correlation
from pipeline.metrics.matching import MatchedObjects
from pipeline.metrics.operating_points import MeanInterval
from pipeline.types import EXPECTED_IOU, NAME_PROBABILITY

_TESTED = TypeAdapter(list[TestedMask])


@dataclass(frozen=True, kw_only=True)
class FoundScore:
    """Masks of boxes that a detector found, on photos that nothing learned from.

    unmatched: masks with an IoU of 0, for which no true mask of their category is left: false
    alarms, second labels of one defect, and labels of another category. mask_iou: their true IoU.
    error: mean distance of the expected IoU from it. rank: Spearman's correlation of both; None
    where it is not defined. Each with its 95 % interval over photos.
    """

    masks: int
    photos: int
    unmatched: int
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
        unmatched=int((true == 0).sum()),
        mask_iou=_mean(true, groups),
        expected=round(float(expected.mean()), 4),
        error=_mean(np.abs(expected - true), groups),
        rank=_rank(*pairs, groups),
    )


@dataclass(frozen=True)
class Expected:
    """Masks (N,) of found boxes: expected and true IoU, 0 for a false alarm, and their groups."""

    expected: NDArray[np.float64]
    true: NDArray[np.float64]
    groups: tuple[str, ...]

    def __add__(self, other: Expected) -> Expected:
        return Expected(
            np.concatenate([self.expected, other.expected]),
            np.concatenate([self.true, other.true]),
            self.groups + other.groups,
        )

    @property
    def score(self) -> FoundScore:
        return found_score(self.expected, self.true, self.groups)


def expected_of(matched: MatchedObjects) -> Expected | None:
    """Every predicted mask that has an expected IoU, matched with the true masks as calibrate does
    it. None where there is no such mask."""
    parts = []
    for record in matched.truth.records:
        objects, true = matched.predictions.get(record.id), matched.truth.on(record)
        if objects is None or not len(objects) or EXPECTED_IOU not in objects.quality:
            continue
        scores = objects.scores if objects.scores is not None else np.ones(len(objects), np.float32)
        shared = mask_geometry.iou(objects.masks or (), true.masks or ())
        labels, true_labels = objects.labels, true.labels
        if NAME_PROBABILITY in objects.quality:  # the expected IoU is that whatever the category
            labels, true_labels = np.zeros_like(labels), np.zeros_like(true_labels)
        ious = true_ious(shared, labels, true_labels, scores)
        kept = ~objects.failed if objects.failed is not None else np.ones(len(objects), bool)
        group = record.group or record.file_name
        expected = objects.quality[EXPECTED_IOU][kept].astype(np.float64)
        parts.append(Expected(expected, ious[kept], (group,) * int(kept.sum())))
    whole = sum(parts, Expected(np.zeros(0), np.zeros(0), ()))
    return whole if len(whole.true) else None


def expected_in(trust: Path) -> Expected | None:
    """The out-of-fold masks in a folder of calibrate; None where they were too few to calibrate.
    Raises DataError for a damaged file."""
    path = trust / TESTED_MASKS
    if not path.is_file():
        return None
    rows = checked(_TESTED, read_json(path), path)
    expected, true = (np.array([getattr(row, name) for row in rows], np.float64)
                      for name in ("expected_iou", "iou"))  # fmt: skip
    return Expected(expected, true, tuple(row.group for row in rows))


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
