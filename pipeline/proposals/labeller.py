"""One set of labels out of all finders: `pipeline combine` writes it, `pipeline label` runs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import ConfigError, WeightsError
from pipeline.interfaces import Detector, PromptedSegmenter
from pipeline.io.read import shown_value
from pipeline.metrics.operating_points import Wish, operating_point
from pipeline.models.anomaly.detector import AnomalyDetector, load_anomaly_detector
from pipeline.models.artifact import CARD, model_kind
from pipeline.models.backends import Backend
from pipeline.models.sam.model import load_segmenter
from pipeline.models.segmentation.model import DefectSegmenter, load_defect_segmenter
from pipeline.models.yolo_world.detector import load_finetuned
from pipeline.proposals.candidates import Candidate, Evidence, candidates, table_of
from pipeline.proposals.card import SEGMENTER, LabellerKnowledge, knowledge, read_labeller
from pipeline.proposals.fit import as_labels
from pipeline.trust.card import missed_probability
from pipeline.trust.cross_detection import MAX_BOXES, MIN_CONFIDENCE
from pipeline.trust.missed import fit_missed
from pipeline.types import EXPECTED_IOU, NAME_PROBABILITY, PROBABILITY, Detections, Image


@dataclass(frozen=True)
class Finders:
    """The models. Those beside the segmenter are None where they are not used."""

    segmenter: DefectSegmenter
    sam: PromptedSegmenter | None = None
    detector: Detector | None = None
    anomaly: AnomalyDetector | None = None

    def candidates(self, image: Image) -> list[Candidate]:
        """The candidates of a new image (H, W, 3) uint8 RGB."""
        evidence = Evidence(
            self.segmenter.defect_map(image),
            self.detector.detect(image) if self.detector else None,
            relative_heat(self.anomaly, image) if self.anomaly else None,
        )
        return candidates(image, evidence, self.segmenter.region_options, self.sam)


class Labeller:
    """Labels images. A `Detector` whose detections have masks, an expected IoU and a probability of
    being a defect."""

    def __init__(
        self, known: LabellerKnowledge, finders: Finders, wish: Wish | None = None
    ) -> None:
        """wish: what the labels should reach; by default what was chosen out of fold. Raises
        ConfigError for a wish where nothing is calibrated."""
        if wish and not known.outcomes:
            raise ConfigError(f"{wish.option} needs a labeller that combine could calibrate")
        self.known, self.finders = known, finders
        self.categories = known.categories
        self.confidence, self.point = known.confidence, None
        if known.outcomes:
            self.point = operating_point(known.outcomes, known.confidence, wish)
            self.confidence = self.point.confidence
        self._missed = fit_missed(known.outcomes, self.confidence)

    def label(self, image: Image) -> tuple[Detections, float | None]:
        """The labels of an image (H, W, 3) uint8 RGB, the likeliest first, and the probability that
        they miss a defect; None where too few photos were known to tell."""
        fits = {
            EXPECTED_IOU: self.known.expected_iou,
            PROBABILITY: self.known.probability,
            NAME_PROBABILITY: self.known.name_probability,
        }
        known = {name: fit for name, fit in fits.items() if fit is not None}
        if PROBABILITY not in known:
            own = self.finders.segmenter.detect(image)
            finders = ("segmenter",) * len(own)
            return replace(own, failed=np.zeros(len(own), bool), finders=finders), None
        rows = self.finders.candidates(image)
        if self.known.naming:
            rows = self.known.naming.named(rows)
        names = [self.categories[row.label] for row in rows]
        table = table_of(rows)
        if not rows:
            return Detections.none(), self._miss(np.zeros(0, np.float32))
        if unknown := {n for fit in known.values() for n in fit.names} - table.keys():
            text = ", ".join(map(shown_value, sorted(unknown)))
            raise WeightsError(f"the labeller's card names figures that it has not: {text}")
        columns = {name: fit.expected_iou(table, names) for name, fit in known.items()}
        probabilities = np.asarray(columns[PROBABILITY], np.float32)
        labels, kept = as_labels(
            rows, probabilities, self.confidence, self.known.refinement, self.categories
        )
        quality = {name: np.asarray(own, np.float32)[kept] for name, own in columns.items()}
        failed = np.zeros(len(kept), bool)
        return replace(labels, quality=quality, failed=failed), self._miss(probabilities)

    def detect(self, image: Image) -> Detections:
        """See `Detector`."""
        return self.label(image)[0]

    def heatmap(self, image: Image) -> NDArray[np.float32]:
        """See `Detector`: the segmenter's probability of a defect at each pixel."""
        return self.finders.segmenter.heatmap(image)

    def _miss(self, probabilities: NDArray[np.float32]) -> float | None:
        if self._missed is None:
            return None
        scores = sorted(probabilities.astype(float).tolist(), reverse=True)
        return missed_probability(self._missed, scores, self.confidence)


def load_labeller(
    folder: Path,
    device: torch.device,
    wish: Wish | None = None,
    confidence: float | None = None,
    backend: Backend = "auto",
    cache_gb: float = 20.0,
) -> Labeller:
    """The labeller of a folder of combine, with its models, or a segmenter alone. wish: what the
    labels should reach. confidence: in place of the chosen one. backend: what runs the segmenter
    and SAM. cache_gb: largest size of the cache on disk; 0 turns it off. Raises ConfigError for
    a wish where nothing is calibrated, DataError, WeightsError."""
    if model_kind(folder) == SEGMENTER:
        alone = load_defect_segmenter(
            folder, device, confidence, backend=backend, cache_gb=cache_gb
        )
        return Labeller(
            knowledge(None, alone.categories, None, alone.confidence), Finders(alone), wish
        )
    known = read_labeller(folder)
    if confidence is not None:
        known = replace(known, confidence=confidence)
    own = None if known.outcomes else known.confidence
    segmenter = load_defect_segmenter(
        folder / SEGMENTER, device, own, backend=backend, cache_gb=cache_gb
    )
    if known.categories != segmenter.categories:
        raise WeightsError(f"{folder / CARD}: names other categories than its segmenter")
    sam = detector = anomaly = None
    if "sam" in known.finders:
        sam = load_segmenter(
            known.sam or str(folder / "sam"), {}, device, backend, cache_gb
        ).segmenter
    if "detector" in known.finders:
        path = folder / "detector"
        detector = load_finetuned(path, MIN_CONFIDENCE, str(device), MAX_BOXES)
    if "anomaly" in known.finders:
        anomaly = load_anomaly_detector(folder / "anomaly", device)
    return Labeller(known, Finders(segmenter, sam, detector, anomaly), wish)


def relative_heat(model: AnomalyDetector, image: Image) -> NDArray[np.float32]:
    """The heat map (H, W) of an anomaly model; 1 is its threshold."""
    heat = model.heatmap(image) / max(model.thresholds.pixel_high, 1e-9)
    return np.asarray(heat, np.float32)
