from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.models.classifier.linear_probe import TrainingOptions, balance
from pipeline.models.classifier.network import ImageClassifier
from pipeline.models.classifier.rac import ImageVectors, RetrievalClassifier
from pipeline.models.features.backbones import split_backbone
from pipeline.models.load import load_classifier
from pipeline.models.text.encoders import load_text_encoder
from pipeline.models.weights.store import WeightsStore

CPU = torch.device("cpu")
COLOURS = {"red_paint": (200, 30, 30), "blue_paint": (30, 30, 200), "good": (120, 120, 120)}


def shown(count: int, seed: int) -> list[tuple[np.ndarray, int]]:
    generator = np.random.default_rng(seed)
    found = []
    for label, colour in enumerate(COLOURS.values()):
        for _ in range(count):
            noise = generator.normal(0, 25, (40, 40, 3))
            found.append((np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8), label))
    return found


def unfitted() -> RetrievalClassifier:
    store = WeightsStore()
    torch.manual_seed(0)
    backbone = split_backbone("mobilenet_v2", store.fetch("mobilenet_v2").path, 3, "head")
    base = ImageClassifier(backbone, tuple(COLOURS), 32, CPU)
    vectors = ImageVectors("mobilenet_v2", 32, CPU, store)
    return RetrievalClassifier(base, vectors, load_text_encoder(store), neighbours=3)


@pytest.fixture(scope="module")
def fitted() -> RetrievalClassifier:
    model = unfitted()
    model.fit(shown(6, 0), 1, TrainingOptions(epochs=8, batch=6, learning_rate=0.01))
    return model


def test_it_names_colours_and_rows_sum_to_one(fitted: RetrievalClassifier) -> None:
    images = shown(4, 9)
    said = fitted.classify([image for image, _ in images])
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-5)
    assert (said.argmax(axis=1) == [label for _, label in images]).mean() > 0.9
    assert fitted.classify([]).shape == (0, 3)


def test_what_is_retrieved_are_the_nearest_images_and_never_itself(
    fitted: RetrievalClassifier,
) -> None:
    """Six images of each label lie in memory, in order."""
    bank = np.stack([fitted.vectors.of(image) for image, _ in shown(6, 0)])
    apart = np.linalg.norm(bank[:, None] - bank[None], axis=2)
    near = np.argsort(apart, axis=1)
    assert fitted.retrieved(bank) == (near[:, :3] // 6).tolist()
    assert fitted.retrieved(bank, skip_itself=True) == (near[:, 1:4] // 6).tolist()


@pytest.mark.slow
def test_it_is_the_same_when_it_is_read_again(fitted: RetrievalClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path, {"backbone": "mobilenet_v2", "unfreeze": "head"})
    again = load_classifier(tmp_path, CPU)
    images = [image for image, _ in shown(2, 5)]
    np.testing.assert_allclose(again.classify(images), fitted.classify(images), atol=1e-5)


@pytest.mark.slow
def test_it_says_nothing_before_it_has_learned(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not fitted"):
        unfitted().classify([shown(1, 0)[0][0]])
    with pytest.raises(ConfigError, match="not fitted"):
        unfitted().save(tmp_path, {})
    assert unfitted().fit([], 1, TrainingOptions()) == []


def test_texts_that_mean_alike_lie_closer() -> None:
    text = load_text_encoder()
    one, two, other = text.encode(["broken teeth", "a tooth is broken", "blue paint"])
    assert one @ two > one @ other
    np.testing.assert_allclose(np.linalg.norm(text.encode(["rough", ""]), axis=1), 1, atol=1e-5)
    assert text.encode([]).shape[0] == 0


def test_balance_by_hand() -> None:
    """Counts 3 and 1. Class-balanced with b = 0.999: (1 - b) / (1 - b^n) is 0.33367 and 1, over
    their mean 0.66683: 0.50038 and 1.49962. Logits are shifted by log 3/4 and log 1/4."""
    labels = torch.tensor([0, 0, 0, 1])
    weights, shift = balance(labels, 2, "class-balanced")
    np.testing.assert_allclose(weights.numpy(), [0.50038, 1.49962], atol=1e-4)
    assert shift.tolist() == [0, 0]
    weights, shift = balance(labels, 2, "logit-adjusted")
    assert weights.tolist() == [1, 1]
    np.testing.assert_allclose(shift.numpy(), np.log([0.75, 0.25]), atol=1e-6)
    assert balance(labels, 2, "plain")[0].tolist() == [1, 1]
