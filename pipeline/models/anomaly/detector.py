"""Anomaly models by name, and the regions of their maps as detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.geometry.boxes import as_boxes
from pipeline.interfaces import AnomalyModel
from pipeline.io.disk_cache import disk_cache
from pipeline.models.anomaly import autoencoder, patchcore
from pipeline.models.anomaly.thresholds import Thresholds, read_thresholds
from pipeline.models.artifact import CARD, TENSORS, read_artifact
from pipeline.models.cards import AutoencoderCard, PatchCoreCard
from pipeline.models.features.patches import BackboneFeatures, PatchFeatures, SamFeatures
from pipeline.models.sam.model import load_sam
from pipeline.models.sam.network import SAM_NAMES, close_side
from pipeline.models.tensors import as_weights_error, refuse_other_size
from pipeline.models.weights.store import WeightsStore
from pipeline.types import AnomalyMap, Detections, Image

_MAX_REGIONS = 100
_SLOPE = 0.9  # share of a peak; a connected pixel above it is a peak of its own
_BACKBONES = ("resnet18", "resnet50", "wide_resnet50_2", "mobilenet_v2")


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
        names = ", ".join((*_BACKBONES, *SAM_NAMES))
        raise ConfigError(f"{name!r} is neither a backbone nor a SAM; use one of {names}")
    sam = load_sam(name)
    encoder = sam.encoder(close_side(sam.base.name, side), device, "auto", disk_cache(20.0))
    return SamFeatures(encoder, name, sam.base.sha256)


def load_anomaly_model(folder: Path, device: torch.device) -> AnomalyModel:
    """Read the model that an anomaly model's `save` wrote. Raises DataError, ConfigError for other
    weights of the backbone, WeightsError."""
    card, state = read_artifact(folder)
    if isinstance(card, PatchCoreCard):
        refuse_other_size(folder / TENSORS, state, {"bank": (None, None)})
        pretrained = bool(card.weights_sha256)
        features = image_features(card.features, card.image_side, device, pretrained)
        if features.card["weights_sha256"] != card.weights_sha256:
            raise ConfigError(
                f"{folder}: was fitted with other weights of {card.features}; fit it again"
            )
        with as_weights_error(folder / TENSORS):
            model: AnomalyModel = patchcore.from_artifact(card, state, features)
        return model
    if isinstance(card, AutoencoderCard):
        flat = autoencoder.flat_size(card.side)
        refuse_other_size(folder / TENSORS, state, {"mean.weight": (card.latent, flat)})
        with as_weights_error(folder / TENSORS):
            return autoencoder.from_artifact(card, state, device)
    raise DataError(
        folder / CARD, f"is of a {card.kind}, no anomaly model", "give a folder of pipeline anomaly"
    )


class AnomalyDetector:
    """A `Detector` of the regions of an anomaly map. It keeps the map of the last image."""

    categories: tuple[str, ...] = ("defect",)

    def __init__(
        self, model: AnomalyModel, thresholds: Thresholds, confidence: float = 0.0
    ) -> None:
        """Regions whose score is below `confidence` are left out."""
        self.model, self.thresholds, self.confidence = model, thresholds, confidence
        self._last: tuple[Image, AnomalyMap] | None = None

    def anomaly_map(self, image: Image) -> AnomalyMap:
        """Score and map of an image."""
        if self._last is None or self._last[0] is not image:
            self._last = (image, self.model.score(image))
        return self._last[1]

    def heatmap(self, image: Image) -> NDArray[np.float32]:
        """See `Detector`."""
        return self.anomaly_map(image).heatmap

    def detect(self, image: Image) -> Detections:
        """See `Detector`. The score of a region is its maximum over twice `pixel_high`, at most 1;
        it is at least 0.5."""
        heat = self.anomaly_map(image).heatmap
        boxes, peaks = regions(heat, self.thresholds)
        scores = np.minimum(peaks / (2 * self.thresholds.pixel_high), 1).astype(np.float32)
        labels = np.zeros(len(boxes), np.int64)
        return Detections(boxes, labels, scores).select(scores >= self.confidence)


def regions(
    heat: NDArray[np.float32], thresholds: Thresholds
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Regions of a map (H, W): boxes (N, 4) xyxy half-open, and maxima (N,), the highest first.

    Each peak of at least `pixel_high` starts a region. The region goes down to half the height of
    the peak above `pixel_median`, but not below `pixel_low`. Its slopes start no other region.
    """
    boxes: list[list[int]] = []
    peaks: list[float] = []
    left = heat.copy()
    while len(boxes) < _MAX_REGIONS:
        at = np.unravel_index(int(left.argmax()), left.shape)
        peak = float(left[at])
        if peak < thresholds.pixel_high:
            break
        above = peak - thresholds.pixel_median
        level = max(thresholds.pixel_low, thresholds.pixel_median + above / 2)
        region, box = _connected(left, level, at)
        slopes, _ = _connected(heat, thresholds.pixel_median + above / 4, at)
        left[region | (slopes & (heat < _SLOPE * peak))] = -np.inf
        boxes.append(box)
        peaks.append(peak)
    return as_boxes(boxes), np.array(peaks, np.float32)


def _connected(
    heat: NDArray[np.float32], level: float, at: tuple[Any, ...]
) -> tuple[NDArray[np.bool_], list[int]]:
    """Mask of the pixels of at least `level` that are 8-connected with the pixel `at`, and their
    box."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        (heat >= level).astype(np.uint8), connectivity=8
    )
    x, y, width, height = (int(value) for value in stats[labels[at], :4])
    return np.asarray(labels == labels[at]), [x, y, x + width, y + height]


def load_anomaly_detector(
    folder: Path, device: torch.device, confidence: float = 0.0
) -> AnomalyDetector:
    """The model of a folder of `pipeline anomaly`, with its thresholds. Raises DataError,
    ConfigError, WeightsError."""
    thresholds = read_thresholds(folder)
    return AnomalyDetector(load_anomaly_model(folder, device), thresholds, confidence)
