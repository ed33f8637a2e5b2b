"""Any trained model by its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from pipeline.errors import ConfigError, DataError, WeightsError
from pipeline.models.anomaly.detector import AnomalyDetector, load_anomaly_detector
from pipeline.models.anomaly.thresholds import has_thresholds
from pipeline.models.artifact import CARD, TENSORS, read_artifact
from pipeline.models.cards import fitting, read_model_card, refuse_other_size
from pipeline.models.classifier.network import restored
from pipeline.models.classifier.rac import load_retrieval
from pipeline.models.devices import torch_device
from pipeline.models.weights.store import WeightsStore
from pipeline.models.yolo_world.detector import RUN_CARD, load_run
from pipeline.types import Classifier, Detector


def load_detector(
    folder: Path, device: str = "auto", confidence: float | None = None, max_boxes: int = 300
) -> Detector:
    """What finds boxes: the detector of finetune-yolo, or an anomaly model with its thresholds.

    confidence: boxes with a lower score are left out; None leaves it to the model. Raises
    ConfigError for a folder that holds neither, WeightsError for files that were changed.
    """
    if (folder / RUN_CARD).exists():
        return load_run(folder, confidence, device, max_boxes)
    if has_thresholds(folder):
        return load_anomaly_detector(folder, torch_device(device), confidence or 0.0)
    raise ConfigError(f"{folder}: holds no detector; give a folder of finetune-yolo or anomaly")


def load_model(folder: Path, device: str = "auto") -> Detector | Classifier:
    """Any model that names what is on an image. Raises as `load_detector`."""
    card = folder / CARD
    if card.exists() and read_model_card(card)["kind"] in ("classifier", "rac"):
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
        found = load_retrieval(card, state, base, WeightsStore())
        found.classify([np.zeros((card["image_side"], card["image_side"], 3), np.uint8)])
        return found


def _refuse_other_memory(path: Path, state: Mapping[str, torch.Tensor], categories: int) -> None:
    """Raise WeightsError unless a memory has a label of a category for each of its vectors."""
    refuse_other_size(path, state, {"memory.vectors": (None, None)})
    shapes = {"memory.labels": (len(state["memory.vectors"]),)}
    refuse_other_size(path, state, {**shapes, "retrieval.weight": (categories, None)})
    labels = state["memory.labels"]
    if labels.dtype != torch.int64 or labels.min() < 0 or labels.max() >= categories:
        raise WeightsError(f"{path}: has labels that are no categories; train the model again")


def anomaly_heatmap(model: Detector | Classifier) -> AnomalyDetector | None:
    """The model as one that also has a heat map, if it does."""
    return model if isinstance(model, AnomalyDetector) else None
