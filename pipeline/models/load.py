"""Any trained model by its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from pipeline.errors import ConfigError, DataError, WeightsError
from pipeline.models.anomaly.detector import LIMITS, AnomalyDetector, load_anomaly_detector
from pipeline.models.artifact import CARD, TENSORS, read_artifact
from pipeline.models.cards import fitting, kind_of, refuse_other_size
from pipeline.models.classifier.network import restored
from pipeline.models.classifier.rac import load_retrieval
from pipeline.models.devices import torch_device
from pipeline.models.weights.store import WeightsStore
from pipeline.models.yolo_world.detector import is_detector, load_finetuned
from pipeline.types import Classifier, Detector


def load_detector(
    folder: Path, device: str = "auto", confidence: float | None = None, max_boxes: int = 300
) -> Detector:
    """The detector of a finetune-yolo folder, or an anomaly model as a detector.

    confidence: detections of a lower score are left out; None takes the model's own. Raises
    ConfigError for a folder that holds neither, WeightsError for files that were changed.
    """
    if is_detector(folder):
        return load_finetuned(folder, confidence, device, max_boxes)
    if (folder / LIMITS).exists():
        return load_anomaly_detector(folder, torch_device(device), confidence or 0.0)
    raise ConfigError(f"{folder}: holds no detector; give a folder of finetune-yolo or anomaly")


def load_model(folder: Path, device: str = "auto") -> Detector | Classifier:
    """Any trained model: a detector, a classifier or an anomaly model.

    Raises as `load_detector`."""
    card = folder / CARD
    if card.exists() and kind_of(card) in ("classifier", "rac"):
        return load_classifier(folder, torch_device(device))
    return load_detector(folder, device)


def load_classifier(folder: Path, device: torch.device) -> Classifier:
    """The classifier that `classify` wrote, with its retrieval module if it has one. Raises
    DataError, WeightsError."""
    card, state = read_artifact(folder)
    if card["kind"] not in ("classifier", "rac"):
        raise DataError(folder / CARD, f"is of a {card['kind']}, no classifier", "give another")
    with fitting(folder / TENSORS):
        base = restored(card, state, device)
        if card["kind"] == "classifier":
            return base
        _refuse_other_memory(folder / TENSORS, state, len(base.categories))
        model = load_retrieval(card, state, base, WeightsStore())
        model.classify([np.zeros((card["image_side"], card["image_side"], 3), np.uint8)])
        return model


def _refuse_other_memory(path: Path, state: Mapping[str, torch.Tensor], categories: int) -> None:
    """Raise WeightsError unless a memory bank has a category's label for each vector."""
    refuse_other_size(path, state, {"memory.vectors": (None, None)})
    shapes = {"memory.labels": (len(state["memory.vectors"]),)}
    refuse_other_size(path, state, {**shapes, "retrieval.weight": (categories, None)})
    labels = state["memory.labels"]
    if labels.dtype != torch.int64 or labels.min() < 0 or labels.max() >= categories:
        raise WeightsError(f"{path}: has labels that are no categories; train the model again")


def anomaly_heatmap(model: Detector | Classifier) -> AnomalyDetector | None:
    """The model as one with heat maps; None for another."""
    return model if isinstance(model, AnomalyDetector) else None
