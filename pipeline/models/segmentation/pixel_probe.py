"""A small network that tells the category of each place from its hypercolumn.

The backbone's features are computed once; what is trained takes seconds, so a cross-validation
costs little more than one training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from pipeline.geometry import masks as mask_geometry
from pipeline.models.devices import seed_all
from pipeline.models.segmentation.hypercolumns import WIDTH, Hypercolumns
from pipeline.types import Detections, Image

Probabilities = NDArray[np.float32]
_INSIDE, _NEAR, _OUTSIDE = 300, 150, 400  # places that are drawn from an image
_RIM = 4  # places about a defect that are near
_COVERED = 0.05  # share of a place from which it is inside
_HIDDEN, _STEPS, _BATCH, _RATE = 128, 600, 1024, 2e-3


@dataclass(frozen=True)
class Sample:
    """Some places of one image. features: (N, 488) float16. targets: (N, 1 + C) float32, the share
    of the place that each category covers, background first. weights: (N,) float32, the root of how
    many places each one stands for."""

    features: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


def draw_sample(
    columns: torch.Tensor, objects: Detections, size: tuple[int, int], categories: int, seed: int
) -> Sample:
    """Places inside, near and outside of an image's objects, with equal chances within each.

    columns: (h, w, 488) of `Hypercolumns`. size: (height, width) of the image. The weights make up
    for part of what is drawn too often: if they did for all, thin defects would not be learned.
    """
    coverage = _coverage(objects, size, (columns.shape[0], columns.shape[1]), categories)
    defect = 1 - coverage[0]
    inside = defect > _COVERED
    side = 2 * _RIM + 1
    wide = cv2.dilate(inside.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)
    generator = np.random.default_rng(seed)
    chosen, weights = [], []
    for places, most in ((inside, _INSIDE), (wide & ~inside, _NEAR), (~wide, _OUTSIDE)):
        index = np.flatnonzero(places)
        drawn = generator.choice(index, min(most, len(index)), replace=False)
        chosen.append(drawn)
        weights.append(np.full(len(drawn), (len(index) / max(len(drawn), 1)) ** 0.5, np.float32))
    rows = np.concatenate(chosen)
    return Sample(
        columns.reshape(-1, columns.shape[2])[torch.from_numpy(rows)].half(),
        torch.from_numpy(coverage.reshape(1 + categories, -1).T[rows].copy()),
        torch.from_numpy(np.concatenate(weights)),
    )


class PixelProbe:
    """A trained probe over the hypercolumns of one backbone, which it does not hold."""

    def __init__(self, network: nn.Module, centre: torch.Tensor, spread: torch.Tensor) -> None:
        """centre, spread: (488,) of the features that `network` learned from."""
        self._network, self._centre, self._spread = network.eval(), centre, spread

    @torch.inference_mode()
    def predict(self, image: Image, columns: Hypercolumns) -> Probabilities:
        """(1 + C, H, W) float32 of an image (H, W, 3) uint8 RGB, background first; they sum to 1.
        columns: of the backbone that the probe learned on."""
        features = (columns.of(image) - self._centre) / self._spread
        planes = self._network(features).softmax(dim=-1).permute(2, 0, 1).numpy()
        size = image.shape[1], image.shape[0]
        full = [cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in planes]
        return np.stack(full).astype(np.float32)


def fit_probe(samples: Sequence[Sample], seed: int) -> PixelProbe:
    """A probe that learned from samples, with AdamW in one cycle. The same samples and seed give
    the same probe. Raises ValueError without a sample."""
    if not samples:
        raise ValueError("there is no image to learn from")
    seed_all(seed)
    features = torch.cat([sample.features for sample in samples])
    targets = torch.cat([sample.targets for sample in samples])
    weights = torch.cat([sample.weights for sample in samples])
    centre = features.float().mean(dim=0)
    spread = features.float().std(dim=0, correction=0) + 1e-3
    network = nn.Sequential(
        nn.Dropout(0.1), nn.Linear(WIDTH, _HIDDEN), nn.GELU(), nn.Dropout(0.2),
        nn.Linear(_HIDDEN, targets.shape[1]),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, _STEPS)
    for _ in range(_STEPS):
        rows = torch.randint(len(features), (_BATCH,))
        logits = network((features[rows].float() - centre) / spread)
        losses = -(targets[rows] * functional.log_softmax(logits, dim=1)).sum(dim=1)
        loss = (losses * weights[rows]).sum() / weights[rows].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return PixelProbe(network, centre, spread)


def _coverage(
    objects: Detections, size: tuple[int, int], grid: tuple[int, int], categories: int
) -> NDArray[np.float32]:
    """(1 + C, h, w): the share of each place that background and each category cover."""
    shares = np.zeros((1 + categories, *grid), np.float32)
    for label in sorted(set(objects.labels.tolist())):
        rows = np.flatnonzero(objects.labels == label)
        masks = [objects.masks[row] for row in rows] if objects.masks else []
        drawn = mask_geometry.union(masks, *size).astype(np.float32)
        shares[1 + label] = cv2.resize(drawn, grid[::-1], interpolation=cv2.INTER_AREA)
    shares[0] = np.clip(1 - shares[1:].sum(axis=0), 0, 1)
    return np.asarray(shares / shares.sum(axis=0), np.float32)
