"""What anomaly reports: figures of all test images and of each category, and a plot of scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.formats.record_masks import read_defect_mask
from pipeline.io.heatmaps import read_heatmap
from pipeline.metrics.anomaly import AnomalyScores, anomaly_scores, pixel_figures, ranking
from pipeline.metrics.pixel_counts import Pair
from pipeline.types import GOOD, ImageRecord
from pipeline.visualization.plots import score_strips


@dataclass(frozen=True)
class CategoryScores:
    """Figures on the test images that are good or of one category."""

    image_auroc: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None


@dataclass(frozen=True)
class ThresholdCounts:
    """Test images, and those of them that the model marks as defective."""

    good_marked: int
    good: int
    defective_marked: int
    defective: int


@dataclass(frozen=True)
class PatchCounts:
    """PatchCore's patches of the good images: all that were seen, those of them that were drawn at
    random for the coreset to be chosen from, and those that it keeps."""

    seen: int
    drawn: int
    kept: int

    def __str__(self) -> str:
        """What was kept, and out of what."""
        text = f"keeps {self.kept:,} of {self.seen:,} patches"
        if self.drawn < self.seen:
            text += f", chosen from {self.drawn:,} that were drawn at random"
        return text


@dataclass(frozen=True)
class TestedImages:
    """Test images with their scores by file name, and the folder of their heat maps.

    mask_threshold: values of mask files above it are defect.
    """

    records: Sequence[ImageRecord]
    scores: Mapping[str, float]
    heatmaps: Path
    mask_threshold: int | None

    def __iter__(self) -> Iterator[Pair]:
        """Heat maps with true masks, read from disk at each iteration."""
        for record in self.records:
            heatmap = read_heatmap(self.heatmaps, record.file_name, record.size)
            yield heatmap, read_defect_mask(record, self.mask_threshold)

    def of(self, category: str) -> TestedImages:
        """The images that are good or of a category."""
        records = [record for record in self.records if record.defect in (GOOD, category)]
        return TestedImages(records, self.scores, self.heatmaps, self.mask_threshold)

    def figures(self) -> AnomalyScores:
        """Figures of images and of pixels; of images alone where a defect has no mask."""
        defective = [record.defect != GOOD for record in self.records]
        images = ranking([self.scores[record.file_name] for record in self.records], defective)
        has_masks = all(r.masks for r in self.records if r.defect != GOOD)
        return anomaly_scores(images, pixel_figures(self) if has_masks else None)

    def by_category(self) -> dict[str, CategoryScores]:
        """Figures of each category of defects beside the good images."""
        rows = {}
        for category in sorted({record.defect for record in self.records} - {GOOD}):
            figures = self.of(category).figures()
            rows[category] = CategoryScores(figures.image_auroc, figures.pixel_auroc, figures.aupro)
        return rows

    def at_threshold(self, threshold: float) -> ThresholdCounts:
        """Counts where scores of at least `threshold` are marked."""
        marked = np.array([self.scores[record.file_name] for record in self.records]) >= threshold
        bad = np.array([record.defect != GOOD for record in self.records])
        return ThresholdCounts(
            int(marked[~bad].sum()), int((~bad).sum()), int(marked[bad].sum()), int(bad.sum())
        )

    def plot(self, path: Path, threshold: float, title: str) -> None:
        """Scores of each category, good images first, with the threshold."""
        rows: dict[str, list[float]] = {}
        for record in sorted(self.records, key=lambda r: (r.defect != GOOD, r.defect)):
            rows.setdefault(record.defect, []).append(self.scores[record.file_name])
        score_strips(path, rows, threshold, title)
