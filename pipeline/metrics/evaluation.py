"""The figures of predictions against the truth: average precision, and the IoU of matched masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.geometry import masks as mask_geometry
from pipeline.metrics.detection import average_precision
from pipeline.metrics.intervals import bootstrap_mean, rank_correlation
from pipeline.metrics.masks import Agreement, mean_by, size_bin
from pipeline.metrics.matching import MatchedObjects


@dataclass(frozen=True, kw_only=True)
class Precision:
    """COCO's average precision in [0, 1], over IoU 0.50:0.95 and at 0.50. None without masks, or
    where the truth has no object."""

    box_ap: float | None = None
    box_ap50: float | None = None
    mask_ap: float | None = None
    mask_ap50: float | None = None


@dataclass(frozen=True, kw_only=True)
class GroupMean:
    """The mean of a figure over `count` objects."""

    mean: float
    count: int


@dataclass(frozen=True, kw_only=True)
class MaskFigures:
    """Figures of the matched masks, each in [0, 1]; None without a match.

    mask_iou_interval: 95 % confidence. mask_iou_missed_as_0: the mean with an IoU of 0 for each
    missed object. mask_iou_by_size: by COCO's size classes.
    """

    mask_iou: float | None = None
    mask_iou_interval: tuple[float, float] | None = None
    mask_iou_missed_as_0: float | None = None
    boundary_iou: float | None = None
    mask_iou_by_category: Mapping[str, GroupMean] | None = None
    mask_iou_by_size: Mapping[str, GroupMean] | None = None


def precision(matched: MatchedObjects) -> Precision:
    """Average precision of boxes, and of masks where all predictions have one."""
    boxes = average_precision(matched.truth, matched.predictions, "bbox")
    result = Precision(box_ap=_rounded(boxes.ap), box_ap50=_rounded(boxes.ap50))
    if not matched.has_masks or any(each.masks is None for each in matched.predictions.values()):
        return result
    masks = average_precision(matched.truth, matched.predictions, "segm")
    return replace(result, mask_ap=_rounded(masks.ap), mask_ap50=_rounded(masks.ap50))


def mask_figures(matched: MatchedObjects, agreement: Agreement) -> MaskFigures:
    """Figures of matched masks. agreement: of the masks of each match, in order."""
    ious: list[float] = agreement.iou.tolist()
    _, true = matched.masks(matched.matches)
    categories = [matched.category(pair) for pair in matched.matches]
    sizes = [size_bin(mask_geometry.area(rle)) for rle in true]
    low, high = (_rounded(value) for value in bootstrap_mean(ious))
    return MaskFigures(
        mask_iou=rounded_mean(ious),
        mask_iou_interval=None if low is None or high is None else (low, high),
        mask_iou_missed_as_0=_rounded(sum(ious) / max(len(ious) + matched.missed, 1)),
        boundary_iou=rounded_mean(agreement.boundary_iou.tolist()),
        mask_iou_by_category=group_means(categories, ious),
        mask_iou_by_size=group_means(sizes, ious),
    )


def rank_correlations(matched: MatchedObjects, ious: Sequence[float]) -> dict[str, float]:
    """Spearman's rho between each quality column that all predictions have and the mask IoU of the
    matches, in order. Columns without a rho are left out."""
    columns = [set(matched.predictions[p.record.id].quality) for p in matched.matches]
    correlations = {}
    for name in sorted(set.intersection(*columns) if columns and ious else set()):
        values = [
            float(matched.predictions[pair.record.id].quality[name][pair.predicted])
            for pair in matched.matches
        ]
        if (correlation := _rounded(rank_correlation(values, ious))) is not None:
            correlations[name] = correlation
    return correlations


def group_means(keys: Sequence[str], values: Sequence[float]) -> dict[str, GroupMean]:
    """The mean of the values of each key, rounded to four digits."""
    means = mean_by(keys, values)
    return {
        key: GroupMean(mean=round(mean, 4), count=count) for key, (mean, count) in means.items()
    }


def rounded_mean(values: Sequence[float]) -> float | None:
    """The mean, rounded to four digits; None for no values."""
    return _rounded(np.mean(values)) if len(values) else None


def _rounded(value: float | np.floating[Any]) -> float | None:
    """Four digits; None for NaN."""
    return None if np.isnan(value) else round(float(value), 4)
