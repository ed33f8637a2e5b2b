"""The networks of a segmentation model, each trained without one fold of the photos.

Together they are better than any of them, and each photo has one that never saw it: no network is
trained for the calibration alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.models.segmentation.crops import CropSampler
from pipeline.models.segmentation.model import Member
from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork
from pipeline.models.segmentation.photos import LabelledPhoto, ScaledPhotos
from pipeline.models.segmentation.trainer import TrainingOptions, train
from pipeline.models.weights.store import Weights
from pipeline.runners import Runner
from pipeline.runners.training import train_on

_GOOD = -1  # the label of a photo without a defect


@dataclass(frozen=True)
class CrossFitOptions:
    """folds: networks, each without one fold of the photos; 0 for one network that learns from
    all. decoder_steps, steps: of each network, see `TrainingOptions`. scale: by which photos are
    resized. runner, workers: where they learn, see `train_on`."""

    network: NetworkOptions
    folds: int
    decoder_steps: int
    steps: int
    batch: int
    scale: float
    seed: int = 0
    runner: Runner = "local"
    workers: int = 1


@dataclass(frozen=True)
class CrossFit:
    """members: the networks. losses: mean over the last tenth of each training."""

    members: tuple[Member, ...]
    losses: tuple[float, ...]


def fold_of_groups(photos: Sequence[LabelledPhoto], count: int, seed: int) -> dict[str, int]:
    """The fold of each group, from 0. Groups are dealt one after the other, category by category,
    so that every fold has its part of each, however rare; a group counts for its rarest category.

    Each fold has a photo of a defect: there are fewer than `count` folds where such groups are
    fewer. Empty for a `count` below 2, or one such group.
    """
    rarest = _rarest(photos)
    folds = min(count, sum(label != _GOOD for label in rarest.values()))
    if folds < 2:
        return {}
    groups = sorted(rarest)
    order = np.random.default_rng(seed).permutation(len(groups)).tolist()
    dealt = sorted((groups[row] for row in order), key=lambda group: _after(rarest[group]))
    return {group: place % folds for place, group in enumerate(dealt)}


def continued_folds(photos: Sequence[LabelledPhoto], members: Sequence[Member]) -> dict[str, int]:
    """The fold of each group, from 0, where the networks of some folds were trained before.

    A group that a network did not learn from stays held out from it. Each new group goes to the
    fold with the fewest groups of its rarest category, and of these to the smallest. Empty for one
    network that learned from all.
    """
    known = {group: fold for fold, member in enumerate(members) for group in member.unseen}
    if not known:
        return {}
    rarest = _rarest(photos)
    sizes = [0] * len(members)
    of_category: Counter[tuple[int, int]] = Counter()
    fold_of: dict[str, int] = {}
    for group in sorted(
        rarest, key=lambda group: (group not in known, *_after(rarest[group]), group)
    ):
        label = rarest[group]
        fewest = min(range(len(members)), key=lambda f: (of_category[label, f], sizes[f], f))
        fold = known.get(group, fewest)
        fold_of[group] = fold
        of_category[label, fold] += 1
        sizes[fold] += 1
    return fold_of


def _rarest(photos: Sequence[LabelledPhoto]) -> dict[str, int]:
    """The rarest category of each group; `_GOOD` for one without a defect."""
    frequency = Counter(label for photo in photos for label in set(_labels(photo)))
    labels_of: dict[str, set[int]] = {}
    for photo in photos:
        labels_of.setdefault(photo.group, set()).update(_labels(photo))
    return {
        group: min(labels, key=lambda label: (frequency[label], label), default=_GOOD)
        for group, labels in labels_of.items()
    }


def cross_fit(
    photos: Sequence[LabelledPhoto],
    fold_of: dict[str, int],
    weights: Weights | None,
    options: CrossFitOptions,
    device: torch.device,
    work: Path | None = None,
    start: Sequence[Member] = (),
) -> CrossFit:
    """Train the networks. fold_of: by group; empty for one network that learns from all photos.
    work: folder of checkpoints, from which a stopped call goes on. start: by fold, the networks to
    go on from. Raises DataError for a photo that cannot be read, and as `train_on`."""
    learn = partial(_cross_fit, photos, fold_of, weights, options, work, start)
    return train_on(learn, device, options.runner, options.workers)


def _cross_fit(
    photos: Sequence[LabelledPhoto],
    fold_of: dict[str, int],
    weights: Weights | None,
    options: CrossFitOptions,
    work: Path | None,
    start: Sequence[Member],
    device: torch.device,
) -> CrossFit:
    """See `cross_fit`: what each process does."""
    scaled = ScaledPhotos(photos, options.scale)
    members, losses = [], []
    count = len(start) or 1 + max(fold_of.values(), default=0)
    for fold in range(count):
        unseen = frozenset(group for group, own in fold_of.items() if own == fold)
        rows = [row for row, photo in enumerate(photos) if photo.group not in unseen]
        seed = options.seed + 1000 * fold
        torch.manual_seed(seed)
        network = SegmentationNetwork(options.network, None if start else weights)
        if start:
            network.load_trained(start[fold].network)
            unseen |= start[fold].unseen - fold_of.keys()
        training = TrainingOptions(
            options.decoder_steps,
            options.steps,
            options.batch,
            learns_all=weights is None and not start,
            seed=seed,
            checkpoint=work / f"network_{fold}.pt" if work else None,
        )
        title = f"train network {fold + 1} of {count}" if count > 1 else "train network"
        history = train(network, CropSampler(scaled, rows, seed), training, device, title)
        tail = history[-max(len(history) // 10, 1) :]
        losses.append(round(sum(tail) / len(tail), 4))
        members.append(Member(network, unseen))
    return CrossFit(tuple(members), tuple(losses))


def _labels(photo: LabelledPhoto) -> list[int]:
    return [int(label) for label in photo.objects.labels]


def _after(label: int) -> tuple[bool, int]:
    """Where a category is dealt: good photos come last."""
    return label == _GOOD, label
