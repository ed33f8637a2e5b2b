"""PatchCore: the anomaly score of a patch is its distance to the nearest patch of good images.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue

from pipeline.errors import ConfigError
from pipeline.models.artifact import save_artifact
from pipeline.models.cards import PatchCoreCard
from pipeline.models.features.coreset import greedy_coreset, projected
from pipeline.models.features.memory_bank import MemoryBank
from pipeline.models.features.patch_sample import PatchSample
from pipeline.models.features.patches import PatchFeatures
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.types import AnomalyMap, Image

_BLUR_SIGMA = 4.0  # standard deviation of the blur at the features' side, in pixels; section 3.3
_RATIO = 0.1  # of the patches of a small set, if no ratio is given
_MOST_KEPT = 10_000  # patches in the memory bank, if no ratio is given
_MOST_DRAWN = 100_000  # patches that the coreset is chosen from, if no ratio is given
_MOST_DRAWN_BY_RATIO = 2_000_000


class PatchCore:
    """An `AnomalyModel` of patch features and a memory bank.

    patches_seen: number of patches of all good images it learned from. patches_drawn: number of
    those that the coreset was chosen from. Both are None before `fit`, and in old models.
    """

    kind = "patchcore"

    def __init__(
        self,
        features: PatchFeatures,
        coreset_ratio: float | None = None,
        neighbours: int = 9,
        seed: int = 0,
        bank: NDArray[np.float32] | None = None,
        patches_seen: int | None = None,
        patches_drawn: int | None = None,
    ) -> None:
        """coreset_ratio: share of the patches that the memory bank keeps; None for a tenth, but at
        most 10,000, chosen from at most 100,000 that are drawn at random. neighbours: patches of
        the bank that weigh an image's score. bank: (N, D) of an earlier fit, which saw and drew
        `patches_seen` and `patches_drawn` patches."""
        keep_freed_memory()
        self.features = features
        self.coreset_ratio, self.neighbours, self.seed = coreset_ratio, neighbours, seed
        self.bank = None if bank is None else MemoryBank(bank)
        self.patches_seen, self.patches_drawn = patches_seen, patches_drawn

    def fit(self, images: Iterable[Image]) -> None:
        """See `AnomalyModel`. Patches stay in half precision until the coreset is chosen. With a
        given ratio it is chosen from all patches, up to two million."""
        most = _MOST_DRAWN if self.coreset_ratio is None else _MOST_DRAWN_BY_RATIO
        sample = PatchSample(most, self.seed)
        for image in images:
            sample.add(self.features.patches(image).flatten(0, 1))
        if not sample.seen:
            raise ConfigError("PatchCore needs good images to learn from: there are none")
        count = max(self.neighbours, self._count(sample.seen))
        small = torch.cat([projected(part, self.seed) for part in sample.parts()])
        self.patches_seen, self.patches_drawn = sample.seen, len(sample)
        self.bank = MemoryBank(sample.select(greedy_coreset(small, count, self.seed)).numpy())

    def _count(self, seen: int) -> int:
        """Patches to keep out of all that were seen."""
        if self.coreset_ratio is None:
            return min(round(seen * _RATIO), _MOST_KEPT)
        return round(seen * self.coreset_ratio)

    def score(self, image: Image) -> AnomalyMap:
        """See `AnomalyModel`."""
        if self.bank is None:
            raise ConfigError("PatchCore was not fitted")
        grid = self.features.patches(image)
        rows, columns, size = grid.shape
        if size != self.bank.vectors.shape[1]:
            raise ConfigError(
                f"PatchCore's memory bank does not hold patches of {size} numbers; fit it again"
            )
        patches = grid.reshape(-1, size).numpy()
        distances, nearest = self.bank.search(patches)
        heat = distances[:, 0].reshape(rows, columns)
        worst = int(distances[:, 0].argmax())
        score = float(distances[worst, 0]) * self._weight(patches[worst], int(nearest[worst, 0]))
        return AnomalyMap(score, smooth(heat, self.features.side, image.shape[:2]))

    def _weight(self, patch: NDArray[np.float32], nearest: int) -> float:
        """Equation 7: lower where the nearest patch has close neighbours in the bank."""
        bank = self.bank
        if bank is None or self.neighbours < 2 or len(bank) < 2:
            return 1.0
        _, around = bank.search(bank.vectors[nearest][None], self.neighbours)
        apart = np.linalg.norm(bank.vectors[around[0]] - patch, axis=1).astype(np.float64)
        own = np.linalg.norm(bank.vectors[nearest] - patch)
        return float(1 - 1 / np.exp(apart - own).sum())

    def save(self, folder: Path) -> None:
        """See `AnomalyModel`."""
        if self.bank is None:
            raise ConfigError("PatchCore was not fitted")
        source = self.features.card
        card: dict[str, JsonValue] = {
            "kind": self.kind,
            "coreset_ratio": self.coreset_ratio,
            "neighbours": self.neighbours,
            "seed": self.seed,
            "patches_seen": self.patches_seen,
            "patches_drawn": self.patches_drawn,
            "features": source["features"],
            "weights_sha256": source["weights_sha256"],
            "image_side": source["image_side"],
        }
        save_artifact(folder, {"bank": torch.from_numpy(self.bank.vectors)}, card)


def smooth(heat: NDArray[np.float32], side: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """A map (h, w) of an image with a longer side of `side` pixels, blurred at that side and
    resized to the image's own `size` (height, width)."""
    scale = side / max(heat.shape)
    width, height = round(heat.shape[1] * scale), round(heat.shape[0] * scale)
    resized = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    blurred = cv2.GaussianBlur(resized, (0, 0), _BLUR_SIGMA)
    return np.asarray(
        cv2.resize(blurred, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32
    )


def from_artifact(
    card: PatchCoreCard, state: dict[str, torch.Tensor], features: PatchFeatures
) -> PatchCore:
    """The model that `save` wrote, from its card and tensors."""
    return PatchCore(
        features,
        card.coreset_ratio,
        card.neighbours,
        card.seed,
        state["bank"].numpy(),
        card.patches_seen,
        card.patches_drawn,
    )
