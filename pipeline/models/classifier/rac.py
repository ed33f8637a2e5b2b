"""RAC: a classifier that also reads the categories of the nearest training images.

Long et al., "Retrieval Augmented Classification for Long-Tail Visual Recognition", CVPR 2022: a
base encoder learns; beside it a retrieval module retrieves the nearest images from a memory,
encodes their texts, and learns from these. Their logits, each scaled to length 1, are summed
(section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import nn
from torch.nn import functional

from pipeline.errors import ConfigError
from pipeline.models.artifact import save_artifact
from pipeline.models.cards import RetrievalCard
from pipeline.models.classifier.linear_probe import EpochMetrics, TrainingOptions, fit_head
from pipeline.models.classifier.network import ImageClassifier, cached_features
from pipeline.models.features.backbones import normalised, split_backbone
from pipeline.models.features.memory_bank import MemoryBank
from pipeline.models.text.embeddings import readable_name
from pipeline.models.text.encoders import TextEncoder, load_text_encoder
from pipeline.models.weights.store import WeightsStore
from pipeline.types import Image

_SHARPNESS = 10.0  # of the sum of two unit vectors, which alone would leave softmax flat


class ImageVectors:
    """A whole image as one unit vector: the mean of the frozen backbone's last features."""

    def __init__(self, name: str, side: int, device: torch.device, store: WeightsStore) -> None:
        """Raises WeightsError where the ImageNet weights of `name` are not available."""
        weights = store.get(name)
        self.card = {"memory_backbone": name, "memory_weights_sha256": weights.sha256}
        self.side, self.device = side, device
        self._trunk = split_backbone(name, weights.path, 1, "head").trunk.to(device)

    @torch.inference_mode()
    def of(self, image: Image) -> NDArray[np.float32]:
        """Unit vector (F,) of an image."""
        features = self._trunk(normalised(image, self.side).to(self.device)).mean(dim=(2, 3))[0]
        return np.asarray(functional.normalize(features, dim=0).cpu().numpy(), np.float32)


class RetrievalClassifier:
    """A `Classifier`: a base one, and a memory of images with their categories' names."""

    def __init__(
        self,
        base: ImageClassifier,
        vectors: ImageVectors,
        text: TextEncoder,
        neighbours: int,
        memory: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
        head: nn.Linear | None = None,
    ) -> None:
        """`memory`: unit vectors (M, F) and labels (M,) of an earlier training, with its `head`."""
        self.base, self.vectors, self.text, self.neighbours = base, vectors, text, neighbours
        self.categories = base.categories
        size = text.encode(["size"]).shape[1]
        self.head = (head or nn.Linear(size, len(self.categories))).to(base.device)
        self._labels = np.zeros(0, np.int64)
        self._bank: MemoryBank | None = None
        self._read: dict[str, NDArray[np.float32]] = {}
        if memory is not None:
            self._remember(*memory)

    def _remember(self, vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        self._bank, self._labels = MemoryBank(vectors), labels

    def fit(
        self, examples: Iterable[tuple[Image, int]], mirrors: int, options: TrainingOptions
    ) -> list[EpochMetrics]:
        """Store the images, and train both heads; an image does not retrieve itself."""
        vectors: list[NDArray[np.float32]] = []

        def stored() -> Iterable[tuple[Image, int]]:
            for image, label in examples:
                vectors.append(self.vectors.of(image))
                yield image, label

        cached, labels = cached_features(self.base, stored(), mirrors)
        if not len(labels):
            return []
        return self.fit_cached(cached, labels, np.stack(vectors), options)

    def fit_cached(
        self,
        cached: torch.Tensor,
        labels: torch.Tensor,
        vectors: NDArray[np.float32],
        options: TrainingOptions,
    ) -> list[EpochMetrics]:
        """The same from what `cached_features` and `ImageVectors` returned."""
        self._remember(vectors, labels.numpy())
        texts = torch.from_numpy(self._encoded(vectors, skip_itself=True)).to(self.base.device)
        head = self.base.backbone.head.train()

        def forward(rows: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
            inputs = cached[rows, view].to(self.base.device).float()
            return _fused(head(inputs), self.head(texts[rows]))

        learning = nn.ModuleList([head, self.head])
        count = len(self.categories)
        history = fit_head(learning, forward, labels, count, cached.shape[1], options)
        head.eval()
        return history

    @torch.inference_mode()
    def classify(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(N, C) probabilities. Raises ConfigError before `fit`."""
        rows = [
            self.classify_features(self.base.features([image])[:, 0], self.vectors.of(image)[None])
            for image in images
        ]
        return np.concatenate(rows) if rows else np.zeros((0, len(self.categories)), np.float32)

    @torch.inference_mode()
    def classify_features(
        self, features: torch.Tensor, vectors: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The same from the base's features (N, ...) and the memory's vectors (N, F)."""
        head = self.base.backbone.head.eval()
        texts = torch.from_numpy(self._encoded(vectors)).to(self.base.device)
        logits = _fused(head(features.to(self.base.device).float()), self.head(texts))
        return np.asarray(logits.softmax(dim=1).cpu().numpy(), np.float32)

    def retrieved(self, vectors: NDArray[np.float32], skip_itself: bool = False) -> list[list[int]]:
        """The labels of the nearest images in memory, the nearest first."""
        if self._bank is None:
            raise ConfigError("the retrieval module was not fitted")
        _, nearest = self._bank.search(vectors, self.neighbours + skip_itself)
        rows = []
        for own, near in enumerate(nearest):
            others = [int(i) for i in near if not (skip_itself and i == own)]
            rows.append([int(self._labels[i]) for i in others[: self.neighbours]])
        return rows

    def _encoded(
        self, vectors: NDArray[np.float32], skip_itself: bool = False
    ) -> NDArray[np.float32]:
        """Text vectors (N, D) of the categories that are retrieved."""
        texts = [
            "; ".join(readable_name(self.categories[label]) for label in labels)
            for labels in self.retrieved(vectors, skip_itself)
        ]
        for text in set(texts) - self._read.keys():
            self._read[text] = self.text.encode([text])[0]
        return np.stack([self._read[text] for text in texts])

    def save(self, folder: Path, card: Mapping[str, JsonValue]) -> None:
        """Write model.safetensors and card.json, which `load_retrieval` reads."""
        if self._bank is None:
            raise ConfigError("the retrieval module was not fitted")
        state = self.base.state() | {
            "memory.vectors": torch.from_numpy(self._bank.vectors),
            "memory.labels": torch.from_numpy(self._labels),
            "retrieval.weight": self.head.weight,
            "retrieval.bias": self.head.bias,
        }
        shape: dict[str, JsonValue] = {
            "categories": [*self.categories],
            "image_side": self.base.image_side,
        }
        extra: dict[str, JsonValue] = {"kind": "rac", "text": self.text.name}
        extra["neighbours"] = self.neighbours
        save_artifact(folder, state, {**card, **shape, **extra, **self.vectors.card})


def _fused(base: torch.Tensor, retrieved: torch.Tensor) -> torch.Tensor:
    unit = functional.normalize(base, dim=1) + functional.normalize(retrieved, dim=1)
    return _SHARPNESS * unit


def load_retrieval(
    card: RetrievalCard,
    state: Mapping[str, torch.Tensor],
    base: ImageClassifier,
    store: WeightsStore,
) -> RetrievalClassifier:
    """The classifier that `save` wrote, around its base. Raises ConfigError, WeightsError."""
    vectors = ImageVectors(card.memory_backbone, base.image_side, base.device, store)
    if vectors.card["memory_weights_sha256"] != card.memory_weights_sha256:
        raise ConfigError(
            f"the memory was made with other weights of {card.memory_backbone}; train it again"
        )
    head = nn.Linear(state["retrieval.weight"].shape[1], len(base.categories))
    head.load_state_dict({"weight": state["retrieval.weight"], "bias": state["retrieval.bias"]})
    memory = state["memory.vectors"].numpy(), state["memory.labels"].numpy()
    text = load_text_encoder(store, card.text)
    return RetrievalClassifier(base, vectors, text, card.neighbours, memory, head)
