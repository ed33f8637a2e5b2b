"""Anomaly models by name, and what of their maps is to be called a defect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.geometry.boxes import as_boxes
from pipeline.io.read import checked, read_json
from pipeline.io.write import write_json
from pipeline.models.anomaly import autoencoder, patchcore
from pipeline.models.anomaly.autoencoder import Autoencoder
from pipeline.models.anomaly.patchcore import PatchCore
from pipeline.models.artifact import CARD, TENSORS, read_artifact
from pipeline.models.cards import LIMITS_OF, fitting, refuse_other_size
from pipeline.models.features.patches import BackboneFeatures, PatchFeatures, SamFeatures
from pipeline.models.sam.model import disk_cache, load_sam
from pipeline.models.sam.network import SAM_NAMES, close_side
from pipeline.models.weights.store import WeightsStore
from pipeline.types import AnomalyMap, AnomalyModel, Detections, Image

LIMITS = "limits.json"
_MOST_REGIONS = 100
_SLOPE = 0.9  # of a peak: higher than that and connected is a peak of its own
_BACKBONES = ("resnet18", "resnet50", "wide_resnet50_2", "mobilenet_v2")


@dataclass(frozen=True)
class Thresholds:
    """What good images alone say of a model's figures: score: of an image, at and above which it
    is defective; seed: of a pixel, which only a defect reaches; edge: of a pixel, which few of a
    good image's reach; usual: the middle of a good image's pixels."""

    score: float
    seed: float
    edge: float
    usual: float

    @classmethod
    def of(
        cls,
        scores: Sequence[float],
        highest: Sequence[float],
        common: Sequence[float],
        middle: Sequence[float],
        alarms: float,
    ) -> Thresholds:
        """From good images that the model did not learn from: their scores, each map's highest
        value, the value below which all but a few of its pixels lie, and its median. At most the
        share `alarms` of them is to be marked."""
        allowed = int(alarms * len(scores))
        score, seed = (
            float(np.nextafter(sorted(values)[-1 - allowed], np.inf))
            for values in (scores, highest)
        )
        return cls(score, seed, min(float(np.mean(common)), seed), float(np.mean(middle)))

    def save(self, folder: Path) -> None:
        """Write limits.json."""
        write_json(folder / LIMITS, asdict(self))


def image_features(
    name: str, side: int, device: torch.device, pretrained: bool = True
) -> PatchFeatures:
    """Patch features by the name of a backbone, or of a SAM. Raises WeightsError, ConfigError."""
    if name in _BACKBONES:
        if not pretrained:
            return BackboneFeatures(name, None, "", side, device)
        weights = WeightsStore().get(name)
        return BackboneFeatures(name, weights.path, weights.sha256, side, device)
    if name not in SAM_NAMES:
        known = ", ".join((*_BACKBONES, *SAM_NAMES))
        raise ConfigError(f"{name!r} is neither backbone nor SAM; known: {known}")
    sam = load_sam(name)
    encoder = sam.encoder(close_side(sam.base.name, side), device, "auto", disk_cache(20.0))
    return SamFeatures(encoder, name, sam.base.sha256)


def load_anomaly_model(folder: Path, device: torch.device) -> AnomalyModel:
    """What an anomaly model's `save` wrote. Raises DataError, WeightsError."""
    card, state = read_artifact(folder)
    kind = card["kind"]
    if kind == PatchCore.kind:
        refuse_other_size(folder / TENSORS, state, {"bank": (None, None)})
        pretrained = bool(card["weights_sha256"])
        features = image_features(card["features"], card["image_side"], device, pretrained)
        if features.card["weights_sha256"] != card["weights_sha256"]:
            raise ConfigError(f"{folder}: was fitted with other weights of {card['features']}")
        with fitting(folder / TENSORS):
            model: AnomalyModel = patchcore.restored(card, state, features)
        return model
    if kind in ("autoencoder", "vae"):
        flat = autoencoder.flat_size(card["side"])
        refuse_other_size(folder / TENSORS, state, {"mean.weight": (card["latent"], flat)})
        with fitting(folder / TENSORS):
            return autoencoder.restored(card, state, device)
    raise DataError(folder / CARD, f"is of a {kind}, no anomaly model", "give another")


def build_anomaly_model(
    kind: str, device: torch.device, features: dict[str, Any], options: dict[str, Any]
) -> AnomalyModel:
    """An unfitted model: `patchcore` over `image_features(**features)`, `autoencoder`, `vae`."""
    if kind == PatchCore.kind:
        return PatchCore(image_features(device=device, **features), **options)
    return Autoencoder(kind == "vae", device=device, **options)


class AnomalyDetector:
    """A `Detector` that calls what stands out of a heat map a defect, and keeps the last map for
    who asks of it."""

    categories: tuple[str, ...] = ("defect",)

    def __init__(self, model: AnomalyModel, limits: Thresholds, confidence: float = 0.0) -> None:
        """Regions whose score is below `confidence` are left out."""
        self.model, self.limits, self.confidence = model, limits, confidence
        self._last: tuple[Image, AnomalyMap] | None = None

    def anomaly_map(self, image: Image) -> AnomalyMap:
        """The model's answer for an image."""
        if self._last is None or self._last[0] is not image:
            self._last = (image, self.model.score(image))
        return self._last[1]

    def heatmap(self, image: Image) -> NDArray[np.float32]:
        """See `Detector`."""
        return self.anomaly_map(image).heatmap

    def detect(self, image: Image) -> Detections:
        """See `Detector`; the score of a region is its highest value, over twice the seed, and at
        most 1: 0.5 is what good images just do not reach."""
        heat = self.anomaly_map(image).heatmap
        boxes, peaks = regions(heat, self.limits)
        scores = np.minimum(peaks / (2 * self.limits.seed), 1).astype(np.float32)
        labels = np.zeros(len(boxes), np.int64)
        found = Detections(boxes, labels, scores)
        return found.select(np.asarray(found.scores) >= self.confidence)


def regions(
    heat: NDArray[np.float32], limits: Thresholds
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes (N, 4) xyxy half-open of what stands out, and how high (N,), the highest first.

    From each peak that reaches `seed`, a region goes down to half its height above what is usual,
    but not below `edge`; its slopes are no peaks of their own.
    """
    boxes: list[list[int]] = []
    peaks: list[float] = []
    left = heat.copy()
    while len(boxes) < _MOST_REGIONS:
        at = np.unravel_index(int(left.argmax()), left.shape)
        peak = float(left[at])
        if peak < limits.seed:
            break
        above = peak - limits.usual
        region, box = _connected(left, max(limits.edge, limits.usual + above / 2), at)
        slopes, _ = _connected(heat, limits.usual + above / 4, at)
        left[region | (slopes & (heat < _SLOPE * peak))] = -np.inf
        boxes.append(box)
        peaks.append(peak)
    return as_boxes(boxes), np.array(peaks, np.float32)


def _connected(
    heat: NDArray[np.float32], level: float, at: tuple[Any, ...]
) -> tuple[NDArray[np.bool_], list[int]]:
    """The pixels from `level` on that are connected with one, at sides or corners, and their
    box."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        (heat >= level).astype(np.uint8), connectivity=8
    )
    x, y, width, height = (int(value) for value in stats[labels[at], :4])
    return np.asarray(labels == labels[at]), [x, y, x + width, y + height]


def load_anomaly_detector(
    folder: Path, device: torch.device, confidence: float = 0.0
) -> AnomalyDetector:
    """The model of a folder of `pipeline anomaly`, with its limits."""
    found = checked(LIMITS_OF, read_json(folder / LIMITS), folder / LIMITS)
    limits = Thresholds(found.score, found.seed, found.edge, found.usual)
    return AnomalyDetector(load_anomaly_model(folder, device), limits, confidence)
