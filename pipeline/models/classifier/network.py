"""The image-level baseline: a frozen trunk, and a head that learns on the trunk's features.

The trunk does not change, so its features are computed once for each image and each of its mirror
images. An epoch then trains the head alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue

from pipeline.models.artifact import save_artifact
from pipeline.models.cards import ClassifierCard
from pipeline.models.classifier.linear_probe import EpochMetrics, TrainingOptions, fit_head
from pipeline.models.features.backbones import SplitBackbone, normalised, split_backbone
from pipeline.types import Image

_MIRRORS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))


class ImageClassifier:
    """A `Classifier` over a split backbone."""

    def __init__(
        self,
        backbone: SplitBackbone,
        categories: Sequence[str],
        image_side: int,
        device: torch.device,
    ) -> None:
        """Images are resized to `image_side` x `image_side` pixels."""
        self.backbone = backbone
        self.categories = tuple(categories)
        self.image_side = image_side
        self.device = device
        backbone.trunk.to(device)
        backbone.head.to(device)

    @torch.inference_mode()
    def classify(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(N, C) probabilities that sum to 1 in each row."""
        if not images:
            return np.zeros((0, len(self.categories)), dtype=np.float32)
        return np.concatenate(
            [self.classify_features(self.features([image])[:, 0]) for image in images]
        )

    @torch.inference_mode()
    def features(self, images: Sequence[Image], mirrors: int = 1) -> torch.Tensor:
        """The trunk's features (N, mirrors, ...), half precision; mirror 0 is the image itself."""
        features = []
        for image in images:
            tensor = self._tensor(image)
            views = [tensor.flip(axes) if axes else tensor for axes in _MIRRORS[:mirrors]]
            features.append(torch.stack([self.backbone.trunk(view)[0].half() for view in views]))
        return torch.stack(features)

    def _tensor(self, image: Image) -> torch.Tensor:
        return normalised(image, self.image_side).to(self.device)

    def state(self) -> dict[str, torch.Tensor]:
        """Every parameter, by name."""
        trunk = {f"trunk.{k}": v for k, v in self.backbone.trunk.state_dict().items()}
        return trunk | {f"head.{k}": v for k, v in self.backbone.head.state_dict().items()}

    @torch.inference_mode()
    def classify_features(self, features: torch.Tensor) -> NDArray[np.float32]:
        """(N, C) probabilities from the trunk's features (N, ...)."""
        logits = self.backbone.head.eval()(features.to(self.device).float())
        return np.asarray(logits.softmax(dim=1).cpu().numpy(), dtype=np.float32)

    def save(self, folder: Path, card: Mapping[str, JsonValue]) -> None:
        """Write model.safetensors and card.json."""
        shape: dict[str, JsonValue] = {
            "categories": [*self.categories],
            "image_side": self.image_side,
        }
        save_artifact(folder, self.state(), {"kind": "classifier", **card, **shape})


def classifier_from_artifact(
    card: ClassifierCard, state: Mapping[str, torch.Tensor], device: torch.device
) -> ImageClassifier:
    """The classifier that `save` wrote."""
    backbone = split_backbone(card.backbone, None, len(card.categories), card.unfreeze)
    for part, module in (("trunk.", backbone.trunk), ("head.", backbone.head)):
        module.load_state_dict({k[len(part) :]: v for k, v in state.items() if k.startswith(part)})
    return ImageClassifier(backbone, card.categories, card.image_side, device)


def cached_features(
    classifier: ImageClassifier, examples: Iterable[tuple[Image, int]], mirrors: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The trunk's features (N, mirrors, ...) and labels (N,) of images, which are read once."""
    features, labels = [], []
    for image, label in examples:
        features.append(classifier.features([image], mirrors))
        labels.append(label)
    cached = torch.cat(features) if features else torch.zeros(0, mirrors)
    return cached, torch.tensor(labels, dtype=torch.long)


def train_head(
    classifier: ImageClassifier,
    cached: torch.Tensor,
    labels: torch.Tensor,
    options: TrainingOptions,
) -> list[EpochMetrics]:
    """Train the head on what `cached_features` returned, with cross entropy. Returns one entry per
    epoch, none without images."""
    if not len(labels):
        return []
    head = classifier.backbone.head.train()

    def forward(rows: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = head(cached[rows, view].to(classifier.device).float())
        return logits

    categories = len(classifier.categories)
    history = fit_head(head, forward, labels, categories, cached.shape[1], options)
    head.eval()
    return history


def views(augment: bool) -> int:
    """Number of views of each image: with `augment`, its mirror images too."""
    return len(_MIRRORS) if augment else 1
