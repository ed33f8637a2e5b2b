"""Which pixels of a defect map make one label: chosen on maps of photos that the networks did not
learn from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from pipeline.metrics.label_quality import (
    MOST_FALSE_LABELS,
    ImageLabels,
    compare_labels,
    false_labels,
    label_iou,
)
from pipeline.models.segmentation.defect_map import (
    DefectMap,
    RegionOptions,
    as_detections,
    regions,
)
from pipeline.types import Detections

_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
_BRIDGES = (0, 4, 10)  # pixels
_AREA_SHARE = 0.25  # of the smallest usual defect: smaller regions are left out
_CONFIDENCES = tuple(np.round(np.arange(0.0, 0.96, 0.05), 2).tolist())


@dataclass(frozen=True)
class ComparedLabels:
    """For each image, the labels at one choice; confidence: their mean probabilities."""

    options: RegionOptions
    confidence: float
    images: tuple[ImageLabels, ...]


def smallest_region(areas: Sequence[int]) -> int:
    """The pixels of the smallest region that counts, a quarter of what 19 of 20 defects have."""
    return max(int(_AREA_SHARE * float(np.quantile(areas, 0.05))), 4) if len(areas) else 4


class RegionChoice:
    """Tries every choice on one image after the other, so that no map is kept."""

    def __init__(self, categories: Sequence[str], min_area: int) -> None:
        self._categories = categories
        self._tried: dict[RegionOptions, dict[float, list[ImageLabels]]] = {
            RegionOptions(threshold, gap, min_area, best_outline): {
                confidence: []
                for confidence in _CONFIDENCES
                if confidence == 0 or confidence > threshold or best_outline
            }
            for best_outline in (False, True)
            for threshold, gap in product(_THRESHOLDS, _BRIDGES)
        }

    def add(self, found: DefectMap, truth: Detections, group: str) -> None:
        """Compare the regions of a map with an image's true objects."""
        for options, by_confidence in self._tried.items():
            labels = as_detections(found, regions(found, options))
            last, compared = None, None
            for confidence, images in by_confidence.items():
                kept = _scores(labels) >= confidence
                if compared is None or int(kept.sum()) != last:
                    last = int(kept.sum())
                    compared = compare_labels(truth, labels.select(kept), self._categories, group)
                images.append(compared)

    def best(self) -> ComparedLabels:
        """The choice with the highest label IoU among those with at most 0.1 false labels an image;
        where none has, the one with the fewest. Raises ValueError without an image."""
        tried = {
            (options, confidence): images
            for options, by_confidence in self._tried.items()
            for confidence, images in by_confidence.items()
        }
        fewest = min(false_labels(images) for images in tried.values())
        most = max(MOST_FALSE_LABELS, fewest)
        allowed = {
            choice: images for choice, images in tried.items() if false_labels(images) <= most
        }
        choice = max(allowed, key=lambda choice: label_iou(allowed[choice]) or 0.0)
        return ComparedLabels(*choice, tuple(allowed[choice]))


def _scores(labels: Detections) -> np.ndarray:
    return np.zeros(0) if labels.scores is None else labels.scores


def try_all(
    maps: Iterable[tuple[DefectMap, Detections, str]], categories: Sequence[str], min_area: int
) -> ComparedLabels:
    """The best choice over maps, each with its true objects and group."""
    choice = RegionChoice(categories, min_area)
    for found, truth, group in maps:
        choice.add(found, truth, group)
    return choice.best()
