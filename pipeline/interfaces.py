"""The interface of each type of model. A model that has these methods needs no base class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipeline.types import AnomalyMap, Boxes, Detections, Image, Masks


class AnomalyModel(Protocol):
    """Learns from good images alone, and scores how much an image differs from them. Images are
    (H, W, 3) uint8 RGB."""

    kind: str

    def fit(self, images: Iterable[Image]) -> None:
        """Learn from good images, each of which is read once. Raises ConfigError for no image."""
        ...

    def score(self, image: Image) -> AnomalyMap:
        """Anomaly map of one image. Raises ConfigError before `fit`."""
        ...

    def save(self, folder: Path) -> None:
        """Write model.safetensors and card.json, which `anomaly.load_anomaly_model` reads."""
        ...


class Detector(Protocol):
    """Finds objects on one image, (H, W, 3) uint8 RGB of any size."""

    categories: tuple[str, ...]

    def detect(self, image: Image) -> Detections:
        """Boxes with labels and scores, highest score first."""
        ...

    def heatmap(self, image: Image) -> NDArray[np.float32] | None:
        """Heat map (H, W) that the boxes of `detect` come from, 0 or more; None for a detector
        that has none."""
        ...


class Segmenter(Protocol):
    """Turns boxes on one image, (H, W, 3) uint8 RGB, into masks."""

    def segment(self, image: Image, boxes: Boxes) -> Masks:
        """One mask for each box, in order. A mask that failed is marked, never left out."""
        ...


class PromptedSegmenter(Protocol):
    """A segmenter that also uses a heat map (H, W): its highest pixel inside a box is a point
    prompt."""

    def segment(
        self, image: Image, boxes: Boxes, heatmap: NDArray[np.float32] | None = None
    ) -> Masks:
        """One mask for each box, in order. A mask that failed is marked, never left out."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """Classifies whole images, (H, W, 3) uint8 RGB."""

    categories: tuple[str, ...]

    def classify(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(N, C) probabilities; each row sums to 1."""
        ...

    def save(self, folder: Path, card: Mapping[str, JsonValue]) -> None:
        """Write model.safetensors and card.json, to which the entries of `card` are added."""
        ...
