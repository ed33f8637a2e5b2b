"""What a score limit costs: the share of defects found, and the false labels an image.

Limits are chosen on images that the detector did not learn from, and what they reach is measured on
groups that had no part in the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.intervals import bootstrap_mean

_FOLDS = 10
MeanInterval = tuple[float, float, float]  # mean, and its 95 % interval over groups


@dataclass(frozen=True)
class ImageOutcome:
    """What a detector finds on an image whose defects are known.

    group: images of one object share it. found_at: for each defect, the highest score of a label on
    it, 0 without one. false_at: the scores of the labels on no defect. scores: of all detections,
    also of those too faint for a mask; highest first.
    """

    group: str
    found_at: tuple[float, ...] = ()
    false_at: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Reached:
    """What a confidence reaches: the share of defects found, in [0, 1], and false labels an image.
    recall is None where no image has a defect."""

    recall: MeanInterval | None
    false_alarms: MeanInterval


Choose = Callable[[Sequence[ImageOutcome]], float | None]  # None: it cannot be reached


@dataclass(frozen=True)
class Wish:
    """What a user wants of a detector, as an option of the command line, and how its confidence is
    chosen. nearest: the confidence where that cannot be reached."""

    option: str
    choose: Choose
    nearest: Callable[[Sequence[float]], float]


@dataclass(frozen=True)
class OperatingPoint:
    """A confidence, what it reaches, and whether that is what was wanted."""

    confidence: float
    reached: Reached
    is_met: bool = True


def wish_of(
    recall: float | None, false_alarms: float | None, cost: tuple[float, float] | None
) -> Wish | None:
    """The one that is given; None for none. cost: of a missed defect, and of a false label."""
    if recall is not None:
        return Wish(f"--recall {recall:g}", partial(for_recall, recall=recall), min)
    if false_alarms is not None:
        option = f"--false-alarms {false_alarms:g}"
        return Wish(option, partial(for_false_alarms, most=false_alarms), max)
    if cost is not None:
        miss, false = cost
        return Wish(f"--cost {miss:g}:{false:g}", partial(for_cost, miss=miss, false=false), min)
    return None


def operating_point(
    outcomes: Sequence[ImageOutcome], confidence: float, wish: Wish | None = None
) -> OperatingPoint:
    """A given confidence and what it reaches, or the one that a wish leads to."""
    if wish is None:
        return OperatingPoint(confidence, reached(outcomes, confidence))
    chosen = wish.choose(outcomes)
    nearest = wish.nearest(candidates(outcomes) or [confidence])
    if chosen is None:
        return OperatingPoint(nearest, reached(outcomes, nearest), is_met=False)
    return OperatingPoint(chosen, reached_by(outcomes, wish.choose, nearest))


def for_recall(outcomes: Sequence[ImageOutcome], recall: float) -> float | None:
    """The highest confidence at which a share of the defects is found; None where none does."""
    found = np.sort(_flat(outcome.found_at for outcome in outcomes))[::-1]
    needed = int(np.ceil(round(recall * len(found), 9)))
    if needed == 0:
        return 1.0
    return float(found[needed - 1]) or None


def for_false_alarms(outcomes: Sequence[ImageOutcome], most: float) -> float | None:
    """The lowest confidence with at most so many false labels an image; None where the highest
    score of all is a false label too many."""
    false = np.sort(_flat(outcome.false_at for outcome in outcomes))[::-1]
    allowed = int(np.floor(round(most * len(outcomes), 9)))
    limit = float(false[allowed]) if allowed < len(false) else 0.0
    above = [score for score in candidates(outcomes) if score > limit]
    return min(above, default=None)


def for_cost(outcomes: Sequence[ImageOutcome], miss: float, false: float) -> float | None:
    """The confidence with the lowest cost of missed defects and false labels; of equal ones, the
    lowest. 1 where no label at all is cheapest."""
    found_at, false_at = (
        _flat(getattr(outcome, name) for outcome in outcomes) for name in ("found_at", "false_at")
    )

    def cost(limit: float) -> float:
        return miss * float((found_at < limit).sum()) + false * float((false_at >= limit).sum())

    return min([*candidates(outcomes), 1.0], key=lambda limit: (cost(limit), limit))


def candidates(outcomes: Sequence[ImageOutcome]) -> list[float]:
    """Every score of a label, the lowest first."""
    scores = [s for outcome in outcomes for s in (*outcome.found_at, *outcome.false_at)]
    return sorted({score for score in scores if score > 0})


def operating_counts(outcomes: Sequence[ImageOutcome], confidence: float) -> tuple[float, float]:
    """At a confidence, the false labels an image and the share of defects missed."""
    found_at, false_at = (
        _flat(getattr(outcome, name) for outcome in outcomes) for name in ("found_at", "false_at")
    )
    missed = float((found_at < confidence).mean()) if len(found_at) else 0.0
    return float((false_at >= confidence).sum()) / max(len(outcomes), 1), missed


def reached(outcomes: Sequence[ImageOutcome], confidence: float) -> Reached:
    """What a given confidence reaches on these images."""
    return _reached(outcomes, [confidence] * len(outcomes))


def reached_by(outcomes: Sequence[ImageOutcome], choose: Choose, nearest: float) -> Reached:
    """What a choice reaches: each image at the confidence that is chosen on the images of other
    groups, in ten folds. So no image speaks for itself. nearest: where a fold has no choice."""
    names = np.unique([outcome.group for outcome in outcomes], return_inverse=True)[1]
    fold_of = names % _FOLDS
    limit_of: dict[int, float] = {}
    for fold in np.unique(fold_of).tolist():
        others = [one for one, own in zip(outcomes, fold_of, strict=True) if own != fold]
        chosen = choose(others) if others else None
        limit_of[fold] = nearest if chosen is None else chosen
    return _reached(outcomes, [limit_of[int(fold)] for fold in fold_of])


def _reached(outcomes: Sequence[ImageOutcome], limits: Sequence[float]) -> Reached:
    pairs = list(zip(outcomes, limits, strict=True))
    found = [(score >= limit, one.group) for one, limit in pairs for score in one.found_at]
    false = [(sum(s >= limit for s in one.false_at), one.group) for one, limit in pairs]
    return Reached(
        _mean_interval(*zip(*found, strict=True)) if found else None,
        _mean_interval(*zip(*false, strict=True)) if false else (0.0, 0.0, 0.0),
    )


def _mean_interval(values: Sequence[float], groups: Sequence[str]) -> MeanInterval:
    numbers = [float(value) for value in values]
    low, high = bootstrap_mean(numbers, groups=groups)
    return round(float(np.mean(numbers)), 4), round(low, 4), round(high, 4)


def _flat(rows: Iterable[Sequence[float]]) -> NDArray[np.float64]:
    return np.array([value for row in rows for value in row], np.float64)
