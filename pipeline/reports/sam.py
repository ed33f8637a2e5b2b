"""What finetune-sam reports: SAM before and after on held-out photos, beside baselines; how well
the expected IoU holds; and masks from boxes that are off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.interfaces import Segmenter
from pipeline.metrics.intervals import bootstrap_mean, bootstrap_rank_correlation, rank_correlation
from pipeline.metrics.masks import mean_by
from pipeline.models.baselines import BoxFillSegmenter, GrabCutSegmenter, MeanShapeSegmenter
from pipeline.models.sam.evaluation import (
    BoxError,
    Evaluation,
    Instance,
    evaluate_boxes,
    perturb_boxes,
)
from pipeline.types import EXPECTED_IOU
from pipeline.visualization.plots import curves, grouped_bars

_ERRORS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
_MAX_CURVE_OBJECTS = 60
_TITLES: dict[BoxError, str] = {
    "shift": "boxes shifted by",
    "scale": "boxes widened or narrowed by",
}
MeanInterval = tuple[float, float, float]  # mean, and its 95 % interval over photos


@dataclass(frozen=True)
class MaskCount:
    """Masks, and the photos that they are on."""

    masks: int
    photos: int


@dataclass(frozen=True)
class PatchPriorUse:
    """Whether the patch prior is used, and the mean IoU that it adds to out-of-fold masks: None
    where it was not tested."""

    used: bool
    gain_out_of_fold: float | None = None


@dataclass(frozen=True)
class CategoryScore:
    """Mean IoU of a category's objects, and how many there are."""

    mean: float
    count: int


@dataclass(frozen=True)
class SegmenterScore:
    """Mask IoU of one segmenter on held-out objects, from their true boxes."""

    mask_iou: MeanInterval
    by_category: dict[str, CategoryScore]


@dataclass(frozen=True, kw_only=True)
class ExpectedIouScore:
    """How well the expected IoU of masks holds. None for a figure that is not defined.

    mean_error_of_expected_iou: mean distance from the true IoU. rank_of_expected_iou: Spearman's
    correlation with the true IoU, and its 95 % interval over photos.
    """

    mean_error_of_expected_iou: float | None = None
    rank_of_expected_iou: MeanInterval | None = None


@dataclass(frozen=True, kw_only=True)
class UnseenScore(ExpectedIouScore):
    """Masks that SAM did not learn from: how many, their mean IoU, and how it was expected."""

    masks: int
    mask_iou: MeanInterval


@dataclass(frozen=True)
class HeldOutScores:
    """Segmenters on held-out objects. gain_over: of the tuned SAM's mean IoU, by the other's name.
    rank_correlation: of each figure of the tuned SAM's masks with their true IoU."""

    segmenters: dict[str, SegmenterScore]
    gain_over: dict[str, MeanInterval]
    rank_correlation: dict[str, float]
    expected_iou: ExpectedIouScore | None = None


def baselines(published: Segmenter, instances: Sequence[Instance]) -> dict[str, Segmenter]:
    """What a tuned SAM is compared with: the published SAM, and three that need no SAM."""
    shapes = [mask_geometry.to_patch(one.mask).pixels for one in instances]
    return {
        "zero_shot": published,
        "mean_shape": MeanShapeSegmenter(shapes),
        "box_fill": BoxFillSegmenter(),
        "grabcut": GrabCutSegmenter(),
    }


def compare(
    folder: Path,
    tuned: Evaluation,
    others: Mapping[str, Segmenter],
    instances: Sequence[Instance],
) -> HeldOutScores:
    """The tuned SAM's evaluation beside those of other segmenters, with a plot in `folder`."""
    evaluations = {"tuned": tuned} | {
        name: evaluate_boxes(segmenter, instances, title=f"test, {name}")
        for name, segmenter in others.items()
    }
    groups = [one.group for one in instances]
    categories = [one.category for one in instances]
    scores = {name: _score(each, categories, groups) for name, each in evaluations.items()}
    gains = {
        name: _mean_interval(tuned.iou - other.iou, groups)
        for name, other in evaluations.items()
        if name != "tuned"
    }
    series = {
        name.replace("_", " "): {key: row.mean for key, row in score.by_category.items()}
        for name, score in scores.items()
    }
    grouped_bars(folder / "mask_iou.png", "mask IoU from true boxes, held-out photos", series)
    expected = tuned.quality.get(EXPECTED_IOU)
    trust = None if expected is None else _expected_iou_score(expected, tuned.iou, groups)
    return HeldOutScores(scores, gains, _rank_correlations(tuned), trust)


def _score(
    evaluation: Evaluation, categories: Sequence[str], groups: Sequence[str]
) -> SegmenterScore:
    by_category = mean_by(categories, evaluation.iou.tolist())
    rows = {
        name: CategoryScore(round(mean, 4), count) for name, (mean, count) in by_category.items()
    }
    return SegmenterScore(_mean_interval(evaluation.iou, groups), rows)


def _mean_interval(values: NDArray[np.float64], groups: Sequence[str]) -> MeanInterval:
    low, high = bootstrap_mean(values.tolist(), groups=groups)
    return round(float(values.mean()), 4), round(float(low), 4), round(float(high), 4)


def _rank_correlations(evaluation: Evaluation) -> dict[str, float]:
    ranks = {
        name: rank_correlation(column.tolist(), evaluation.iou.tolist())
        for name, column in evaluation.quality.items()
    }
    return {name: round(rank, 4) for name, rank in ranks.items() if not np.isnan(rank)}


def unseen_score(
    expected: NDArray[np.float32], true: NDArray[np.float64], instances: Sequence[Instance]
) -> UnseenScore:
    """The IoU (N,) of masks of objects that SAM did not learn from, and how it was expected."""
    groups = [one.group for one in instances]
    score = _expected_iou_score(expected, true, groups)
    return UnseenScore(
        masks=len(instances),
        mask_iou=_mean_interval(true, groups),
        mean_error_of_expected_iou=score.mean_error_of_expected_iou,
        rank_of_expected_iou=score.rank_of_expected_iou,
    )


def _expected_iou_score(
    expected: NDArray[np.float32], true: NDArray[np.float64], groups: Sequence[str]
) -> ExpectedIouScore:
    error = round(float(np.abs(expected - true).mean()), 4) if len(true) else None
    pairs = expected.tolist(), true.tolist()
    rank = rank_correlation(*pairs)
    if np.isnan(rank):
        return ExpectedIouScore(mean_error_of_expected_iou=error)
    low, high = bootstrap_rank_correlation(*pairs, groups)
    ranks = round(rank, 4), round(low, 4), round(high, 4)
    return ExpectedIouScore(mean_error_of_expected_iou=error, rank_of_expected_iou=ranks)


def robustness(
    folder: Path, segmenters: Mapping[str, Segmenter], instances: Sequence[Instance]
) -> dict[str, dict[str, list[float]]]:
    """Mean mask IoU of each segmenter from boxes that are off by 0 to 40 % of their sides, by kind
    of error; with a plot in `folder`. Of many objects it takes a random sample."""
    rows_drawn = np.random.default_rng(0).permutation(len(instances))[:_MAX_CURVE_OBJECTS]
    sample = [instances[index] for index in sorted(rows_drawn)]
    rows = {
        error: {name: _curve(name, each, sample, error) for name, each in segmenters.items()}
        for error in _TITLES
    }
    panels = {_TITLES[error]: rows[error] for error in rows}
    curves(folder / "robustness.png", _ERRORS, panels, "share of the box's side", "mask IoU")
    return {error: {"error": list(_ERRORS), **by_name} for error, by_name in rows.items()}


def _curve(
    name: str, segmenter: Segmenter, instances: Sequence[Instance], error: BoxError
) -> list[float]:
    """Mean IoU at each share of `_ERRORS`."""
    means = []
    for share in _ERRORS:
        boxes = perturb_boxes(instances, error, share)
        evaluation = evaluate_boxes(segmenter, instances, boxes, f"{error} {share:.0%}, {name}")
        means.append(round(float(evaluation.iou.mean()), 4))
    return means
