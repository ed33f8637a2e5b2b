"""The figures of a detector, and the curves of its training."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.io.read import read_text
from pipeline.metrics.detection import AveragePrecision


@dataclass(frozen=True)
class BoxScore:
    """Box AP of a category, by COCO's rules; None for one without objects."""

    box_ap50: float | None
    box_ap: float | None


@dataclass(frozen=True)
class BoxScores:
    """Box AP over all categories and by category."""

    box_ap50: float | None
    box_ap: float | None
    per_category: dict[str, BoxScore]


def box_scores(precision: AveragePrecision) -> BoxScores:
    """Rounded to four digits."""
    return BoxScores(
        box_ap50=_rounded(precision.ap50),
        box_ap=_rounded(precision.ap),
        per_category={
            name: BoxScore(_rounded(ap50), _rounded(ap))
            for name, (ap, ap50) in precision.per_category.items()
        },
    )


def _rounded(value: float) -> float | None:
    """None for NaN, the AP of a category without objects."""
    return None if np.isnan(value) else round(value, 4)


def epochs_of(path: Path) -> list[dict[str, str]]:
    """ultralytics' results.csv, a row an epoch, by the names of its columns. Raises DataError."""
    return list(csv.DictReader(read_text(path).splitlines(), skipinitialspace=True))
