"""Thresholds of an anomaly model, chosen on good images alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import FiniteFloat
from typing_extensions import TypedDict

from pipeline.io.read import checked, read_json
from pipeline.io.write import write_json
from pipeline.models.cards import OLD_THRESHOLDS_CARD, THRESHOLDS_CARD
from pipeline.types import AnomalyMap

THRESHOLDS_FILE = "thresholds.json"
OLD_THRESHOLDS_FILE = "limits.json"  # of version 0.7
_QUANTILE = 0.99  # the rest of a good image's pixels may be as high as the rim of a defect


class GoodImage(TypedDict):
    """Anomaly score of a good image, and of its map the maximum, the 0.99 quantile and the
    median."""

    score: FiniteFloat
    pixel_max: FiniteFloat
    pixel_q99: FiniteFloat
    pixel_median: FiniteFloat


def good_image(result: AnomalyMap) -> GoodImage:
    """The figures of a good image's anomaly map."""
    return GoodImage(
        score=result.score,
        pixel_max=float(result.heatmap.max()),
        pixel_q99=float(np.quantile(result.heatmap, _QUANTILE)),
        pixel_median=float(np.median(result.heatmap)),
    )


@dataclass(frozen=True)
class Thresholds:
    """Thresholds in the units of a model's scores and maps.

    image: score from which an image is defective. pixel_high: a region holds a pixel of at least
    this value. pixel_low: its pixels have at least this value. pixel_median: of a good image.
    """

    image: float
    pixel_high: float
    pixel_low: float
    pixel_median: float

    @classmethod
    def of(cls, images: Sequence[GoodImage], max_false_positive_rate: float) -> Thresholds:
        """From at least one good image that the model did not learn from. At most the share
        `max_false_positive_rate` of them is at or above `image`, and at or above `pixel_high`."""
        allowed = int(max_false_positive_rate * len(images))
        image = _above([row["score"] for row in images], allowed)
        high = _above([row["pixel_max"] for row in images], allowed)
        low = float(np.mean([row["pixel_q99"] for row in images]))
        median = float(np.mean([row["pixel_median"] for row in images]))
        return cls(image, high, min(low, high), median)

    def save(self, folder: Path) -> None:
        """Write thresholds.json."""
        write_json(folder / THRESHOLDS_FILE, asdict(self))


def _above(values: Sequence[float], allowed: int) -> float:
    """The lowest threshold that `allowed` of the values reach."""
    return float(np.nextafter(sorted(values)[-1 - allowed], np.inf))


def has_thresholds(folder: Path) -> bool:
    """Whether `read_thresholds` has a file to read."""
    return any((folder / name).exists() for name in (THRESHOLDS_FILE, OLD_THRESHOLDS_FILE))


def read_thresholds(folder: Path) -> Thresholds:
    """The thresholds of a folder of `pipeline anomaly`, also of version 0.7. Raises DataError."""
    path, old = folder / THRESHOLDS_FILE, folder / OLD_THRESHOLDS_FILE
    if old.exists() and not path.exists():
        before = checked(OLD_THRESHOLDS_CARD, read_json(old), old)
        return Thresholds(before.score, before.seed, before.edge, before.usual)
    card = checked(THRESHOLDS_CARD, read_json(path), path)
    return Thresholds(card.image, card.pixel_high, card.pixel_low, card.pixel_median)
