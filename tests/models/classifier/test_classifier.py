from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.models.classifier.linear_probe import TrainingOptions
from pipeline.models.classifier.network import ImageClassifier, cached_features, train_head
from pipeline.models.features.backbones import split_backbone
from pipeline.models.load import load_classifier
from pipeline.models.weights.store import WeightsStore


def classifier_of(name: str = "mobilenet_v2", unfreeze: str = "layer4") -> ImageClassifier:
    weights = WeightsStore().fetch(name).path if name == "mobilenet_v2" else None
    torch.manual_seed(0)
    backbone = split_backbone(name, weights, categories=2, unfreeze=unfreeze)
    return ImageClassifier(backbone, ("dark", "bright"), 64, torch.device("cpu"))


def images(count: int) -> tuple[list[np.ndarray], np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    drawn = [
        generator.integers(120 * label, 120 * label + 130, (40, 50, 3)).astype(np.uint8)
        for label in labels
    ]
    return drawn, labels.astype(np.int64)


def test_no_images_give_no_rows() -> None:
    assert classifier_of().classify([]).shape == (0, 2)


def test_it_learns_to_tell_dark_from_bright() -> None:
    classifier = classifier_of(unfreeze="head")
    shown, labels = images(12)
    cached = cached_features(classifier, zip(shown, labels, strict=True), 4)
    history = train_head(classifier, *cached, TrainingOptions(20, 4, 1e-2))
    said = classifier.classify(shown)
    assert np.allclose(said.sum(axis=1), 1, atol=1e-5)
    assert (said.argmax(axis=1) == labels).all()
    assert history[-1].loss < history[0].loss


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", pytest.param("resnet50", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("unfreeze", ["all", "layer3", "layer4", "head"])
def test_only_the_head_learns(name: str, unfreeze: str) -> None:
    classifier = classifier_of(name, unfreeze)
    before = {k: v.clone() for k, v in classifier.backbone.trunk.state_dict().items()}
    shown, labels = images(4)
    cached = cached_features(classifier, zip(shown, labels, strict=True), 1)
    train_head(classifier, *cached, TrainingOptions(1, 4, 1e-2))
    after = classifier.backbone.trunk.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert bool(before) == (unfreeze != "all")


@pytest.mark.slow
def test_trunk_and_head_are_torchvisions_network() -> None:
    from torchvision import models

    name, weights = "mobilenet_v2", WeightsStore().fetch("mobilenet_v2").path
    network = models.mobilenet_v2()
    network.load_state_dict(torch.load(weights, weights_only=True))
    pixels = torch.rand(1, 3, 96, 96)
    for unfreeze in ("all", "layer3", "layer4", "head"):
        parts = split_backbone(name, weights, 5, unfreeze)
        with torch.inference_mode():
            ours = parts.head.eval()[:-3](parts.trunk(pixels))  # before pooling is flattened
            theirs = network.eval().features(pixels).mean((2, 3), keepdim=True)
        assert torch.allclose(ours.flatten(1), theirs.flatten(1), atol=1e-4)


def test_a_saved_classifier_says_the_same(tmp_path: Path) -> None:
    classifier = classifier_of()
    shown, _ = images(3)
    classifier.save(tmp_path, {"backbone": "mobilenet_v2", "unfreeze": "layer4"})
    loaded = load_classifier(tmp_path, torch.device("cpu"))
    assert loaded.categories == ("dark", "bright")
    assert np.allclose(loaded.classify(shown), classifier.classify(shown), atol=1e-6)
