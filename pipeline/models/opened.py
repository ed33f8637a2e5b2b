"""Any trained model by its folder."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.errors import ConfigError
from pipeline.io.read import read_json
from pipeline.models.anomaly import LIMITS, AnomalyDetector, open_anomaly_detector
from pipeline.models.classifier import restored
from pipeline.models.devices import torch_device
from pipeline.models.retrieval import load_retrieval
from pipeline.models.saved import CARD, read_model
from pipeline.models.weights import WeightsStore
from pipeline.models.yolo_world import RUN_CARD, load_run
from pipeline.types import Classifier, Detector


def open_detector(
    folder: Path, device: str = "auto", confidence: float | None = None, max_boxes: int = 300
) -> Detector:
    """What finds boxes: the detector of finetune-yolo, or an anomaly model with its limits.

    confidence: boxes with a lower score are left out; None leaves it to the model. Raises
    ConfigError for a folder that holds neither, WeightsError for files that were changed.
    """
    if (folder / RUN_CARD).is_file():
        return load_run(folder, confidence, device, max_boxes)
    if (folder / LIMITS).is_file():
        return open_anomaly_detector(folder, torch_device(device), confidence or 0.0)
    raise ConfigError(f"{folder}: holds no detector; give a folder of finetune-yolo or anomaly")


def open_model(folder: Path, device: str = "auto") -> Detector | Classifier:
    """Any model that names what is on an image. Raises as `open_detector`."""
    kind = read_json(folder / CARD).get("kind") if (folder / CARD).is_file() else None
    if kind in ("classifier", "rac"):
        return load_classifier(folder, torch_device(device))
    return open_detector(folder, device)


def load_classifier(folder: Path, device: torch.device) -> Classifier:
    """The classifier that `classify` wrote, with its retrieval module if it has one. Raises
    DataError, WeightsError."""
    card, state = read_model(folder)
    base = restored(card, state, device)
    if card["kind"] == "rac":
        return load_retrieval(card, state, base, WeightsStore())
    return base


def heat_of(model: Detector | Classifier) -> AnomalyDetector | None:
    """The model as one that also has a heat map, if it does."""
    return model if isinstance(model, AnomalyDetector) else None
