"""One classifier, trained once or on the folds of a cross-validation.

The trunk's features and the memory's vectors do not change, so folds share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue, TypeAdapter

from pipeline.interfaces import Classifier
from pipeline.models.classifier.linear_probe import EpochMetrics, TrainingOptions
from pipeline.models.classifier.network import ImageClassifier, cached_features, train_head, views
from pipeline.models.classifier.rac import ImageVectors, RetrievalClassifier
from pipeline.models.devices import seed_all
from pipeline.models.features.backbones import pretrained_weights, split_backbone
from pipeline.models.text.encoders import TextEncoder, load_text_encoder
from pipeline.models.weights.store import WeightsStore
from pipeline.types import Image

Labelled = Iterable[tuple[Image, int]]


@dataclass(frozen=True)
class ClassifierOptions:
    """Options of the network. pretrained: as in `pretrained_weights`. unfreeze: as in
    `split_backbone`. retrieval: add RAC's module, which reads the categories of `neighbours`
    images."""

    backbone: str = "resnet18"
    pretrained: str = "auto"
    unfreeze: str = "layer4"
    image_side: int = 128
    augment: bool = True
    retrieval: bool = False
    neighbours: int = 5


class ClassifierTrainer:
    """Builds and trains classifiers of the same options."""

    def __init__(
        self,
        categories: Sequence[str],
        options: ClassifierOptions,
        training: TrainingOptions,
        device: torch.device,
    ) -> None:
        """Raises WeightsError for weights that are required and not available."""
        self.categories, self.options = tuple(categories), options
        self.training, self.device = training, device
        self.weights = pretrained_weights(options.backbone, options.pretrained)
        self.vectors: ImageVectors | None = None
        self.text: TextEncoder | None = None
        if options.retrieval:
            store = WeightsStore()
            self.vectors = ImageVectors(options.backbone, options.image_side, device, store)
            self.text = load_text_encoder(store)

    @property
    def origin(self) -> str:
        """The weights that the backbone starts from."""
        if self.weights:
            return "ImageNet"
        no = self.options.pretrained == "no"
        return "random" if no else "random (ImageNet's are not available)"

    def base(self) -> ImageClassifier:
        """An untrained classifier, the same for the same seed."""
        seed_all(self.training.seed)
        path = self.weights.path if self.weights else None
        name, unfreeze = self.options.backbone, self.options.unfreeze
        backbone = split_backbone(name, path, len(self.categories), unfreeze)
        return ImageClassifier(backbone, self.categories, self.options.image_side, self.device)

    def augmented(self, base: ImageClassifier) -> RetrievalClassifier | None:
        """The base with a retrieval module; None without `retrieval`."""
        if self.vectors is None or self.text is None:
            return None
        return RetrievalClassifier(base, self.vectors, self.text, self.options.neighbours)

    def fit(self, examples: Labelled) -> tuple[Classifier, list[EpochMetrics]]:
        """A classifier trained on images with their labels, and its epochs."""
        base = self.base()
        augmented = self.augmented(base)
        count = views(self.options.augment)
        if augmented is not None:
            return augmented, augmented.fit(examples, count, self.training)
        cached, labels = cached_features(base, examples, count)
        return base, train_head(base, cached, labels, self.training)


def build_trainer(
    categories: Sequence[str], settings: Mapping[str, JsonValue], device: torch.device
) -> ClassifierTrainer:
    """A trainer from the settings of a configuration: those of `ClassifierOptions` and of
    `TrainingOptions`; others have no effect. Raises WeightsError."""
    options = TypeAdapter(ClassifierOptions).validate_python(settings)
    training = TypeAdapter(TrainingOptions).validate_python(settings)
    return ClassifierTrainer(categories, options, training, device)


class FoldTrainer:
    """Trains on folds of a fixed list of images. It reads each image once, twice with retrieval."""

    def __init__(self, trainer: ClassifierTrainer, images: Callable[[], Iterable[Image]]) -> None:
        self.trainer = trainer
        self._training = replace(trainer.training, bar=False)  # the caller shows one for all folds
        examples = ((image, 0) for image in images())
        count = views(trainer.options.augment)
        self._features, _ = cached_features(trainer.base(), examples, count)
        self._vectors: NDArray[np.float32] | None = None
        if trainer.vectors is not None:
            self._vectors = np.stack([trainer.vectors.of(image) for image in images()])

    def predict(
        self, train: NDArray[np.int64], labels: NDArray[np.int64], test: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Predicted labels of the images `test`, after training on the images `train` with their
        `labels`; images are given by row."""
        base = self.trainer.base()
        truth = torch.from_numpy(labels)
        augmented = self.trainer.augmented(base)
        features = self._features[test][:, 0]
        if augmented is None or self._vectors is None:
            train_head(base, self._features[train], truth, self._training)
            probabilities = base.classify_features(features)
        else:
            vectors = self._vectors[train]
            augmented.fit_cached(self._features[train], truth, vectors, self._training)
            probabilities = augmented.classify_features(features, self._vectors[test])
        return np.asarray(probabilities.argmax(axis=1), np.int64)
