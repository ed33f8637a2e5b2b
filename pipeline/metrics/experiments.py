"""Figures of several classifiers that were tested on the same folds: accuracies with intervals,
recall along a long tail, and paired differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.classification import classification
from pipeline.metrics.intervals import bootstrap_mean, wilson
from pipeline.metrics.paired import corrected_t_test, holm, shots
from pipeline.types import ImageRecord

_SIGNIFICANT = 0.05  # p below which a difference is significant
Interval = tuple[float, float]


@dataclass(frozen=True)
class Fold:
    """Rows of the training images and of the test images."""

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class FoldedImages:
    """A product's images with their labels (N,), and the folds over them."""

    categories: tuple[str, ...]
    records: Sequence[ImageRecord]
    labels: NDArray[np.int64]
    folds: Sequence[Fold]

    @property
    def truth(self) -> NDArray[np.int64]:
        """Labels of the test images of all folds, one fold after another."""
        return np.concatenate([self.labels[fold.test] for fold in self.folds])

    def train_means(self) -> dict[str, float]:
        """Mean number of training images of each category in a fold."""
        size = len(self.categories)
        counts = [np.bincount(self.labels[fold.train], minlength=size) for fold in self.folds]
        return {
            name: float(np.mean([count[label] for count in counts]))
            for label, name in enumerate(self.categories)
        }


@dataclass(frozen=True)
class FoldedPredictions:
    """Predicted labels of the test images of each fold, in order, and the backbone's weights."""

    by_fold: Sequence[NDArray[np.int64]]
    weights: str

    def accuracies(self, images: FoldedImages) -> list[float]:
        """Accuracy in each fold."""
        pairs = zip(self.by_fold, images.folds, strict=True)
        return [float((labels == images.labels[fold.test]).mean()) for labels, fold in pairs]

    def right(self, images: FoldedImages) -> NDArray[np.float64]:
        """(N,): the share of repeats in which the label of each image is correct."""
        right, times = np.zeros(len(images.labels)), np.zeros(len(images.labels))
        for labels, fold in zip(self.by_fold, images.folds, strict=True):
            right[fold.test] += labels == images.labels[fold.test]
            times[fold.test] += 1
        return right / np.maximum(times, 1)


@dataclass(frozen=True, kw_only=True)
class ExperimentScores:
    """Figures of one experiment over all folds.

    weights: that the backbone starts from. published: its accuracy in the publication.
    accuracy_interval: Wilson's; accuracy_bootstrap: over groups of images. by_shots: mean recall of
    the categories with many, medium and few training images, None without a long tail.
    """

    backbone: str
    weights: str
    published: float | None = None
    accuracy: float
    accuracy_interval: Interval
    accuracy_bootstrap: Interval
    macro_f1: float
    by_shots: dict[str, float] | None = None


@dataclass(frozen=True)
class Difference:
    """Difference of two experiments' accuracies, its p (Holm), and whether it is significant."""

    accuracy: float
    p: float
    real: bool


def experiment_scores(
    backbone: str,
    published: float | None,
    predictions: FoldedPredictions,
    images: FoldedImages,
    shot_limits: tuple[int, int] | None,
) -> ExperimentScores:
    """Figures of one experiment. shot_limits: training images from which a category counts as
    few-shot no more, and as many-shot; None without a long tail."""
    right = predictions.right(images)
    labels = np.concatenate(predictions.by_fold)
    figures = classification(images.truth, labels, len(images.categories))
    low, high = wilson(round(float(right.sum())), len(right))
    groups = [record.group for record in images.records]
    low2, high2 = bootstrap_mean(right.tolist(), groups=groups)
    return ExperimentScores(
        backbone=backbone,
        weights=predictions.weights,
        published=published,
        accuracy=round(float(right.mean()), 4),
        accuracy_interval=(round(low, 4), round(high, 4)),
        accuracy_bootstrap=(round(low2, 4), round(high2, 4)),
        macro_f1=round(figures.macro_f1, 4),
        by_shots=_by_shots(labels, images, shot_limits) if shot_limits else None,
    )


def _by_shots(
    labels: NDArray[np.int64], images: FoldedImages, limits: tuple[int, int]
) -> dict[str, float]:
    """Mean recall of the categories with many, medium and few training images."""
    group_of = shots({name: int(mean) for name, mean in images.train_means().items()}, *limits)
    truth = images.truth
    recalls: dict[str, list[float]] = {}
    for label, name in enumerate(images.categories):
        if (truth == label).any():
            recall = float((labels[truth == label] == label).mean())
            recalls.setdefault(group_of[name], []).append(recall)
    return {name: round(float(np.mean(values)), 4) for name, values in recalls.items()}


def accuracy_differences(
    predictions: Mapping[str, FoldedPredictions], images: FoldedImages
) -> dict[str, Difference]:
    """Differences of all pairs, the later experiment minus the earlier."""
    accuracies = {name: each.accuracies(images) for name, each in predictions.items()}
    share = float(np.mean([len(fold.test) / len(images.labels) for fold in images.folds]))
    raw, means = {}, {}
    for first, second in combinations(accuracies, 2):
        gaps = np.subtract(accuracies[second], accuracies[first]).tolist()
        raw[f"{second} - {first}"] = corrected_t_test(gaps, share)
        means[f"{second} - {first}"] = float(np.mean(gaps))
    return {
        name: Difference(round(means[name], 4), round(p, 4), p < _SIGNIFICANT)
        for name, p in holm(raw).items()
    }
