"""`load_model`: which model a folder's card names, and what happens where it names none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.schema import PredictConfig
from pipeline.errors import ConfigError, DataError
from pipeline.io.images import write_png
from pipeline.models import load
from pipeline.models.artifact import CARD, TENSORS, model_kind
from pipeline.models.cards import KINDS
from pipeline.models.classifier.network import ImageClassifier
from pipeline.models.export import build_graph
from pipeline.models.features.backbones import split_backbone
from pipeline.models.load import load_detector, load_model
from pipeline.stages.predict import predict

LOADERS = {
    "classifier": "load_classifier",
    "rac": "load_classifier",
    "patchcore": "load_anomaly_detector",
    "autoencoder": "load_anomaly_detector",
    "vae": "load_anomaly_detector",
    "segmenter": "load_defect_segmenter",
    "yolo-world": "load_finetuned",
    "sam": "load_segmenter",
}


def card_of(kind: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / CARD).write_text(json.dumps({"kind": kind, "sha256": "0" * 64}))
    return folder


def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the loaders that are called from now on; they load nothing."""
    names: list[str] = []

    def stub(name: str) -> Callable[..., Any]:
        return lambda *_, **__: names.append(name)

    for name in set(LOADERS.values()):
        monkeypatch.setattr(load, name, stub(name))
    return names


def test_a_folder_without_a_card_holds_no_model(tmp_path: Path) -> None:
    assert model_kind(tmp_path) is None
    with pytest.raises(ConfigError, match="holds no trained model; give a folder of finetune-yolo"):
        load_model(tmp_path, "cpu")
    with pytest.raises(ConfigError, match="holds no detector; give a folder of finetune-yolo"):
        load_detector(tmp_path, "cpu")


def test_every_kind_of_card_has_a_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(KINDS) == {*LOADERS, "trust", "labeller"}  # the last two are no models
    names = called(monkeypatch)
    for kind in LOADERS:
        load_model(card_of(kind, tmp_path), "cpu")
    assert names == [*LOADERS.values()]


@pytest.mark.parametrize(
    ("name", "loader"), [("detector.json", "load_finetuned"), ("sam.json", "load_segmenter")]
)
def test_a_card_of_version_0_7_has_no_kind_but_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, loader: str
) -> None:
    (tmp_path / name).write_text("{}")
    names = called(monkeypatch)
    load_model(tmp_path, "cpu")
    assert names == [loader]


def test_an_unknown_kind_is_one_line_that_names_the_card_and_the_kinds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"card\.json: kind is 'oracle', not one of classifier, "):
        load_model(card_of("oracle", tmp_path), "cpu")


@pytest.mark.parametrize("kind", ["classifier", "sam", "trust", "labeller"])
def test_a_model_without_boxes_is_no_detector(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"no detector, its card.json is of kind {kind}"):
        load_detector(card_of(kind, tmp_path), "cpu")


def test_a_classifier_is_loaded_by_its_kind(tmp_path: Path) -> None:
    backbone = split_backbone("mobilenet_v2", None, 2, "head")
    model = ImageClassifier(backbone, ("crack", "good"), 32, torch.device("cpu"))
    model.save(tmp_path, {"backbone": "mobilenet_v2", "unfreeze": "head"})
    assert (tmp_path / TENSORS).is_file()
    loaded = load_model(tmp_path, "cpu")
    assert isinstance(loaded, ImageClassifier)
    assert loaded.categories == ("crack", "good")


def test_a_sam_cannot_predict_and_has_no_single_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.models.sam.model import CalibratedSegmenter

    folder = card_of("sam", tmp_path / "sam")
    with pytest.raises(ConfigError, match="SAM has no single graph"):
        build_graph(folder)
    write_png(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    segmenter = CalibratedSegmenter.__new__(CalibratedSegmenter)
    monkeypatch.setattr(load, "load_segmenter", lambda *_, **__: segmenter)
    with pytest.raises(ConfigError, match="is a SAM, which needs boxes; use segment --sam"):
        predict([tmp_path / "a.png"], folder, tmp_path / "out", PredictConfig(), device="cpu")
