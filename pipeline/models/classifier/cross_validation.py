"""One kind of classifier, trained anew on many parts of the same images.

What never changes, the trunk's features and the memory's vectors, is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.models.classifier.linear_probe import Epoch, Lesson
from pipeline.models.classifier.network import ImageClassifier, cached_features, train_head, views
from pipeline.models.classifier.rac import ImageVectors, RetrievalClassifier
from pipeline.models.devices import seed_all
from pipeline.models.features.backbones import pretrained_weights, split_backbone
from pipeline.models.text.encoders import TextEncoder, load_text_encoder
from pipeline.models.weights.store import WeightsStore
from pipeline.types import Classifier, Image

Shown = Iterable[tuple[Image, int]]


class Recipe:
    """How a classifier is made: its backbone, what of it learns, how, and with what beside it."""

    def __init__(
        self,
        categories: Sequence[str],
        lesson: Lesson,
        device: torch.device,
        backbone: str = "resnet18",
        pretrained: str = "auto",
        unfreeze: str = "layer4",
        image_side: int = 128,
        augment: bool = True,
        retrieval: bool = False,
        neighbours: int = 5,
    ) -> None:
        """`retrieval` adds RAC's module, which reads the names of `neighbours` images. Raises
        WeightsError for weights that are asked for and cannot be had."""
        self.categories, self.lesson, self.device = tuple(categories), lesson, device
        self.backbone, self.unfreeze, self.image_side = backbone, unfreeze, image_side
        self.augment, self.neighbours = augment, neighbours
        self._pretrained = pretrained
        self.weights = pretrained_weights(backbone, pretrained)
        self.vectors: ImageVectors | None = None
        self.text: TextEncoder | None = None
        if retrieval:
            store = WeightsStore()
            self.vectors = ImageVectors(backbone, image_side, device, store)
            self.text = load_text_encoder(store)

    @property
    def origin(self) -> str:
        """What the backbone starts from."""
        if self.weights:
            return "ImageNet"
        return "random" if self._pretrained == "no" else "random (ImageNet's could not be had)"

    def base(self) -> ImageClassifier:
        """A classifier that has learned nothing yet, the same for the same seed."""
        seed_all(self.lesson.seed)
        path = self.weights.path if self.weights else None
        backbone = split_backbone(self.backbone, path, len(self.categories), self.unfreeze)
        return ImageClassifier(backbone, self.categories, self.image_side, self.device)

    def augmented(self, base: ImageClassifier) -> RetrievalClassifier | None:
        """The same with a retrieval module, if the recipe has one."""
        if self.vectors is None or self.text is None:
            return None
        return RetrievalClassifier(base, self.vectors, self.text, self.neighbours)

    def trained(self, shown: Shown) -> tuple[Classifier, list[Epoch]]:
        """One that learned from images with their labels, and its history."""
        base = self.base()
        augmented = self.augmented(base)
        if augmented is not None:
            return augmented, augmented.fit(shown, views(self.augment), self.lesson)
        cached, labels = cached_features(base, shown, views(self.augment))
        return base, train_head(base, cached, labels, self.lesson)


class HeadTrials:
    """A recipe over a fixed list of images, which are read once (twice with retrieval)."""

    def __init__(self, recipe: Recipe, images: Callable[[], Iterable[Image]]) -> None:
        self.recipe = recipe
        self._lesson = replace(recipe.lesson, bar=False)  # the caller has one over all of them
        shown = ((image, 0) for image in images())
        self._features, _ = cached_features(recipe.base(), shown, views(recipe.augment))
        self._vectors: NDArray[np.float32] | None = None
        if recipe.vectors is not None:
            self._vectors = np.stack([recipe.vectors.of(image) for image in images()])

    def answers(
        self, learned: NDArray[np.int64], labels: NDArray[np.int64], held: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """What is said of images `held`, by row, after learning from those `learned` with their
        labels."""
        base = self.recipe.base()
        known = torch.from_numpy(labels)
        augmented = self.recipe.augmented(base)
        own = self._features[held][:, 0]
        if augmented is None or self._vectors is None:
            train_head(base, self._features[learned], known, self._lesson)
            said = base.judge(own)
        else:
            seen = self._vectors[learned]
            augmented.fit_cached(self._features[learned], known, seen, self._lesson)
            said = augmented.judge(own, self._vectors[held])
        return np.asarray(said.argmax(axis=1), np.int64)


def recipe_of(categories: Sequence[str], device: torch.device, **said: object) -> Recipe:
    """A recipe from the plain values of a configuration: those of `Lesson` and of `Recipe`."""
    names = ("epochs", "batch", "learning_rate", "loss", "sampling", "seed")
    lesson = Lesson(**{name: said[name] for name in names})  # type: ignore[arg-type]
    own = ("backbone", "pretrained", "unfreeze", "image_side", "augment", "retrieval", "neighbours")
    return Recipe(categories, lesson, device, **{n: said[n] for n in own})  # type: ignore[arg-type]
