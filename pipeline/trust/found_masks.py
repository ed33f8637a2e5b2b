"""Masks of boxes that a detector found, and what is true of them, as `metrics.found_masks` has
it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import iou
from pipeline.interfaces import PromptedSegmenter
from pipeline.metrics.found_masks import true_ious
from pipeline.metrics.operating_points import ImageOutcome
from pipeline.models.sam.calibration import Table
from pipeline.types import Detections, Image

DEFECT_IOU = 0.1  # a label is on a defect if it has this IoU with a true mask
_OVERLAP = 0.1  # IoU of boxes that overlap
_SCORE_LIMITS = (0.001, 0.999)  # beyond which the logit of a score is too large


@dataclass(frozen=True)
class FoundMask:
    """One mask that has pixels. category: of its box. iou: with its true mask, 0 for a false alarm.
    is_defect: whether it has an IoU of `DEFECT_IOU` with any true mask. quality: its figures by
    name, with those of `detection_figures`."""

    category: str
    score: float
    iou: float
    is_defect: bool
    quality: dict[str, float]


@dataclass(frozen=True)
class FoundImage:
    """The masks on one image, the highest score first, and what they find of its defects."""

    masks: tuple[FoundMask, ...]
    outcome: ImageOutcome


def detection_figures(found: Detections) -> Table:
    """Figures (N,) of the boxes of an image: the logit of the score, and the logarithms of the
    number of boxes with a higher score, and of those that overlap, of the box's own category and of
    others. A box that is left out for its low score changes none of them."""
    scores = scores_of(found)
    rank = np.empty(len(found))
    rank[np.argsort(-scores, kind="stable")] = np.arange(len(found))
    higher = (iou(found.boxes, found.boxes) > _OVERLAP) & (rank[None, :] < rank[:, None])
    same = found.labels[:, None] == found.labels[None, :]
    columns = {
        "box_score": logit(np.clip(scores, *_SCORE_LIMITS)),
        "box_rank": np.log1p(rank),
        "box_repeats": np.log1p((higher & same).sum(axis=1)),
        "box_rivals": np.log1p((higher & ~same).sum(axis=1)),
    }
    return {name: np.asarray(column, np.float32) for name, column in columns.items()}


def scores_of(found: Detections) -> NDArray[np.float32]:
    """(N,) the scores; 1 without any."""
    return np.ones(len(found), np.float32) if found.scores is None else found.scores


def measure(
    image: Image,
    found: Detections,
    truth: Detections,
    categories: Sequence[str],
    group: str,
    segmenter: PromptedSegmenter,
    lowest: float,
    most: int,
    heatmap: NDArray[np.float32] | None = None,
) -> FoundImage:
    """Segment the detections of an image that score at least `lowest`, at most `most` of them, and
    compare the masks with the truth. categories: names by label, of both."""
    scores = scores_of(found)
    ordered = found.select(np.argsort(-scores, kind="stable"))
    all_scores = np.sort(scores)[::-1]
    kept = replace(ordered, attributes={}).select(np.flatnonzero(all_scores >= lowest)[:most])
    kept_scores = all_scores[: len(kept)]
    masks = segmenter.segment(image, kept.boxes, heatmap)
    shared = mask_geometry.iou(masks.masks, truth.masks or ())
    ious = true_ious(shared, kept.labels, truth.labels, kept_scores)
    on_defect = shared >= DEFECT_IOU
    columns = {**masks.quality, **detection_figures(kept)}
    rows = tuple(
        FoundMask(
            categories[int(kept.labels[row])],
            round(float(kept_scores[row]), 6),
            round(float(ious[row]), 5),
            bool(on_defect[row].any()),
            {name: round(float(column[row]), 6) for name, column in columns.items()},
        )
        for row in np.flatnonzero(~masks.failed)
    )
    outcome = ImageOutcome(
        group,
        found_at=tuple(_highest(kept_scores[on]) for on in on_defect.T),
        false_at=_rounded(kept_scores[~on_defect.any(axis=1)]),
        scores=_rounded(all_scores),
    )
    return FoundImage(rows, outcome)


def _highest(scores: NDArray[np.float32]) -> float:
    return round(float(scores.max()), 6) if len(scores) else 0.0


def _rounded(scores: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(round(float(score), 6) for score in scores)
