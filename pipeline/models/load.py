"""Trained models by their folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from pipeline.errors import ConfigError, DataError, WeightsError
from pipeline.interfaces import Classifier, Detector
from pipeline.models.anomaly.detector import AnomalyDetector, load_anomaly_detector
from pipeline.models.artifact import CARD, TENSORS, model_kind, read_artifact
from pipeline.models.backends import Backend
from pipeline.models.cards import ClassifierCard, RetrievalCard
from pipeline.models.classifier.network import classifier_from_artifact
from pipeline.models.classifier.rac import load_retrieval
from pipeline.models.devices import torch_device
from pipeline.models.sam.model import CalibratedSegmenter, load_segmenter
from pipeline.models.segmentation.model import load_defect_segmenter
from pipeline.models.tensors import as_weights_error, refuse_other_size
from pipeline.models.weights.store import WeightsStore
from pipeline.models.yolo_world.detector import load_finetuned

TrainedModel = Detector | Classifier | CalibratedSegmenter
_CLASSIFIERS = ("classifier", "rac")
_ANOMALY_MODELS = ("patchcore", "autoencoder", "vae")


def load_model(folder: Path, device: str = "auto") -> TrainedModel:
    """The trained model of a folder, by the `kind` in its card.json: yolo-world, segmenter,
    patchcore, autoencoder or vae as a detector, classifier or rac as a classifier, sam as a
    segmenter.

    Folders of version 0.7 are loaded too. Raises ConfigError for a folder without a model,
    DataError for a card that cannot be read, WeightsError for files that were changed.
    """
    kind = model_kind(folder)
    if kind in _CLASSIFIERS:
        return load_classifier(folder, torch_device(device))
    if kind == "sam":
        return load_segmenter(str(folder), {}, torch_device(device))
    if kind is None:
        commands = "finetune-yolo, finetune-segmenter, finetune-sam, anomaly or classify"
        raise ConfigError(f"{folder}: holds no trained model; give a folder of {commands}")
    return load_detector(folder, device)


def load_detector(
    folder: Path,
    device: str = "auto",
    confidence: float | None = None,
    max_boxes: int = 300,
    backend: Backend = "auto",
    cache_gb: float = 20.0,
) -> Detector:
    """The detector of a folder of finetune-yolo or finetune-segmenter, or an anomaly model as one.

    confidence: detections of a lower score are left out; None takes the model's own. backend,
    cache_gb: of a segmenter, see `DefectSegmenter`. Raises ConfigError for a folder that holds
    neither, DataError for a card that cannot be read, WeightsError for files that were changed.
    """
    kind = model_kind(folder)
    if kind == "yolo-world":
        return load_finetuned(folder, confidence, device, max_boxes)
    if kind in _ANOMALY_MODELS:
        return load_anomaly_detector(folder, torch_device(device), confidence or 0.0)
    if kind == "segmenter":
        on = torch_device(device)
        return load_defect_segmenter(folder, on, confidence, max_boxes, backend, cache_gb)
    reason = f", its {CARD} is of kind {kind}" if kind else ""
    remedy = "give a folder of finetune-yolo, finetune-segmenter or anomaly"
    raise ConfigError(f"{folder}: holds no detector{reason}; {remedy}")


def finder_of(folder: Path) -> str:
    """Who finds the objects of a folder's model, one of `types.FINDERS`. Raises DataError for a
    card that cannot be read."""
    kind = model_kind(folder)
    return kind if kind == "segmenter" else "anomaly" if kind in _ANOMALY_MODELS else "detector"


def load_classifier(folder: Path, device: torch.device) -> Classifier:
    """The classifier of a classify folder, with its retrieval module if it has one. Raises
    DataError, WeightsError."""
    card, state = read_artifact(folder)
    if not isinstance(card, ClassifierCard):
        reason = f"kind is {card.kind}, not {' or '.join(_CLASSIFIERS)}"
        raise DataError(folder / CARD, reason, "give a folder of classify")
    with as_weights_error(folder / TENSORS):
        base = classifier_from_artifact(card, state, device)
        if not isinstance(card, RetrievalCard):
            return base
        _refuse_other_memory(folder / TENSORS, state, len(base.categories))
        model = load_retrieval(card, state, base, WeightsStore())
        model.classify([np.zeros((card.image_side, card.image_side, 3), np.uint8)])
        return model


def _refuse_other_memory(path: Path, state: Mapping[str, torch.Tensor], categories: int) -> None:
    """Raise WeightsError unless a memory bank has a category's label for each vector."""
    refuse_other_size(path, state, {"memory.vectors": (None, None)})
    shapes = {"memory.labels": (len(state["memory.vectors"]),)}
    refuse_other_size(path, state, {**shapes, "retrieval.weight": (categories, None)})
    labels = state["memory.labels"]
    if labels.dtype != torch.int64 or labels.min() < 0 or labels.max() >= categories:
        raise WeightsError(f"{path}: has labels that are no categories; train the model again")


def as_anomaly_detector(model: TrainedModel) -> AnomalyDetector | None:
    """The model as one with heat maps; None for another."""
    return model if isinstance(model, AnomalyDetector) else None
