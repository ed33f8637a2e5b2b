"""The networks of a segmentation model, each trained without one fold of the photos.

Together they are better than any of them, and each photo has one that never saw it: no network is
trained for the calibration alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pipeline.models.segmentation.crops import CropSampler
from pipeline.models.segmentation.model import Member
from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork
from pipeline.models.segmentation.photos import LabelledPhoto, ScaledPhotos
from pipeline.models.segmentation.trainer import TrainingOptions, train
from pipeline.models.weights.store import Weights
from pipeline.splits import folds
from pipeline.types import GOOD


@dataclass(frozen=True)
class CrossFitOptions:
    """folds: networks, each without one fold of the photos; 0 for one network that learns from
    all. decoder_steps, steps: of each network, see `TrainingOptions`. scale: by which photos are
    shrunk."""

    network: NetworkOptions
    folds: int
    decoder_steps: int
    steps: int
    batch: int
    scale: float
    seed: int = 0


@dataclass(frozen=True)
class CrossFit:
    """members: the networks. losses: mean over the last tenth of each training."""

    members: tuple[Member, ...]
    losses: tuple[float, ...]


def fold_of_groups(
    photos: Sequence[LabelledPhoto], categories: Sequence[str], count: int, seed: int
) -> dict[str, int]:
    """The fold of each group, from 0; the images of each category, and the good ones, are spread.
    Empty for a `count` below 2, and where a fold would have no photo of a defect."""
    if count < 2:
        return {}
    records = [
        replace(photo.record, group=photo.group, defect=_category(photo, categories))
        for photo in photos
    ]
    fold_of = folds(records, count, seed)
    filled = {fold_of[photo.group] for photo in photos if len(photo.objects)}
    return fold_of if len(filled) == count else {}


def cross_fit(
    photos: Sequence[LabelledPhoto],
    fold_of: dict[str, int],
    weights: Weights | None,
    options: CrossFitOptions,
    device: torch.device,
    work: Path | None = None,
) -> CrossFit:
    """Train the networks. fold_of: by group; empty for one network that learns from all photos.
    work: folder of checkpoints, from which a stopped call goes on. Raises DataError for a photo
    that cannot be read."""
    scaled = ScaledPhotos(photos, options.scale)
    members, losses = [], []
    count = 1 + max(fold_of.values(), default=0)
    for fold in range(count):
        unseen = frozenset(group for group, own in fold_of.items() if own == fold)
        rows = [row for row, photo in enumerate(photos) if photo.group not in unseen]
        seed = options.seed + 1000 * fold
        torch.manual_seed(seed)
        network = SegmentationNetwork(options.network, weights)
        training = TrainingOptions(
            options.decoder_steps,
            options.steps,
            options.batch,
            learns_all=weights is None,
            seed=seed,
            checkpoint=work / f"network_{fold}.pt" if work else None,
        )
        title = f"train network {fold + 1} of {count}" if count > 1 else "train network"
        history = train(network, CropSampler(scaled, rows, seed), training, device, title)
        tail = history[-max(len(history) // 10, 1) :]
        losses.append(round(sum(tail) / len(tail), 4))
        members.append(Member(network, unseen))
    return CrossFit(tuple(members), tuple(losses))


def _category(photo: LabelledPhoto, categories: Sequence[str]) -> str:
    """Of the photo's first object."""
    labels = photo.objects.labels
    return categories[int(labels[0])] if len(labels) else GOOD
