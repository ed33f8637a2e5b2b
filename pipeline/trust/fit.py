"""Calibrations from the masks of found boxes, each tested on photos that it was not fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.found_masks import TestedMask
from pipeline.metrics.operating_points import ImageOutcome
from pipeline.models.sam.calibration import Calibration, Table, cross_expected
from pipeline.trust.found_masks import FoundImage
from pipeline.trust.missed import is_missed, score_figures
from pipeline.trust.regression import fit_logistic, fit_probability

MIN_PHOTOS, MIN_MASKS = 10, 20  # for a calibration


@dataclass(frozen=True)
class MaskTable:
    """Masks of found boxes, one row each. columns: figures (N,). iou: (N,), 0 for a false alarm.
    is_defect: (N,). groups: of their photos. categories: of their boxes."""

    columns: Table
    iou: NDArray[np.float64]
    is_defect: NDArray[np.bool_]
    groups: tuple[str, ...]
    categories: tuple[str, ...]

    @property
    def is_enough(self) -> bool:
        """Whether a calibration can be fitted."""
        return len(self.iou) >= MIN_MASKS and len(set(self.groups)) >= MIN_PHOTOS


def mask_table(images: Sequence[FoundImage]) -> MaskTable:
    """The masks of all images."""
    rows = [(mask, image.outcome.group) for image in images for mask in image.masks]
    names = sorted(rows[0][0].quality) if rows else []
    return MaskTable(
        {name: np.array([m.quality.get(name, 0.0) for m, _ in rows], np.float32) for name in names},
        np.array([mask.iou for mask, _ in rows], np.float64),
        np.array([mask.is_defect for mask, _ in rows], bool),
        tuple(group for _, group in rows),
        tuple(mask.category for mask, _ in rows),
    )


@dataclass(frozen=True)
class FoundCalibration:
    """expected_iou, probability: fitted to all masks. tested_iou, tested_probability: (N,) of each
    mask, by fits to the masks of other photos."""

    expected_iou: Calibration
    probability: Calibration
    tested_iou: NDArray[np.float32]
    tested_probability: NDArray[np.float32]


def calibrate_found(masks: MaskTable) -> FoundCalibration | None:
    """None for masks that are too few."""
    if not masks.is_enough:
        return None
    table, iou, flags = masks.columns, masks.iou.tolist(), masks.is_defect.astype(float).tolist()
    groups, categories = masks.groups, masks.categories
    return FoundCalibration(
        fit_logistic(table, iou, categories),
        fit_probability(table, flags, categories),
        cross_expected(table, iou, groups, categories, fit_logistic),
        cross_expected(table, flags, groups, categories, fit_probability),
    )


def tested_rows(masks: MaskTable, found: FoundCalibration) -> list[TestedMask]:
    """Each mask with what fits to the masks of other photos expect."""
    columns = zip(
        masks.groups,
        masks.categories,
        masks.iou.tolist(),
        found.tested_iou.astype(float).tolist(),
        found.tested_probability.astype(float).tolist(),
        strict=True,
    )
    return [TestedMask(g, name, iou, round(e, 4), round(p, 4)) for g, name, iou, e, p in columns]


def cross_missed(
    outcomes: Sequence[ImageOutcome], confidence: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """(N,) the probability that each image's labels miss a defect, by a fit to the other photos,
    and whether they do. None for too few images."""
    groups = [outcome.group for outcome in outcomes]
    if len(set(groups)) < MIN_PHOTOS:
        return None
    table = score_figures([outcome.scores for outcome in outcomes], confidence)
    flags = [is_missed(outcome, confidence) for outcome in outcomes]
    numbers = [float(flag) for flag in flags]
    blank = [""] * len(outcomes)
    tested = cross_expected(table, numbers, groups, blank, fit_probability)
    return tested, np.array(flags)
