"""PatchCore: the anomaly score of a patch is its distance to the nearest patch of good images.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from pipeline.models.features.patches import PatchFeatures
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.types import AnomalyMap, Image

_BLUR_SIGMA = 4.0  # standard deviation of the blur at the features' side, in pixels; section 3.3
_MAX_PATCHES = 2_000_000


class PatchCore:
    """An `AnomalyModel` of patch features and a memory bank."""

    kind = "patchcore"

    def __init__(
        self,
        features: PatchFeatures,
        coreset_ratio: float = 0.1,
        neighbours: int = 9,
        seed: int = 0,
        bank: NDArray[np.float32] | None = None,
    ) -> None:
        """coreset_ratio: share of the patches that the memory bank keeps. neighbours: patches of
        the bank that weigh an image's score. bank: (N, D) of an earlier fit."""
        keep_freed_memory()
        self.features = features
        self.coreset_ratio, self.neighbours, self.seed = coreset_ratio, neighbours, seed
        self.bank = None if bank is None else MemoryBank(bank)

    def fit(self, images: Iterable[Image]) -> None:
        """See `AnomalyModel`. Patches stay in half precision until the coreset is chosen. Of more
        than two million patches, two million are drawn at random."""
        patches_by_image = []
        for image in images:
            grid = self.features.patches(image)
            patches_by_image.append(grid.reshape(-1, grid.shape[2]).half())
        if not patches_by_image:
            raise ConfigError("PatchCore needs good images to learn from: there are none")
        total = sum(len(patches) for patches in patches_by_image)
        projection = torch.cat([projected(patches, self.seed) for patches in patches_by_image])
        count = max(self.neighbours, round(total * self.coreset_ratio))
        candidates = torch.arange(total)
        if total > _MAX_PATCHES:
            generator = torch.Generator().manual_seed(self.seed)
            candidates = torch.randperm(total, generator=generator)[:_MAX_PATCHES].sort().values
            projection = projection[candidates]
        coreset = candidates[greedy_coreset(projection, count, self.seed)].sort().values
        sizes = [len(patches) for patches in patches_by_image]
        rows_by_image = torch.split(coreset, _counts(coreset, sizes))
        start = 0
        vectors = []
        # Image by image: all at once would take twice the memory.
        for patches, rows in zip(patches_by_image, rows_by_image, strict=True):
            vectors.append(patches[rows - start].float())
            start += len(patches)
        self.bank = MemoryBank(torch.cat(vectors).numpy())

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
            "features": source["features"],
            "weights_sha256": source["weights_sha256"],
            "image_side": source["image_side"],
        }
        save_artifact(folder, {"bank": torch.from_numpy(self.bank.vectors)}, card)


def _counts(rows: torch.Tensor, sizes: Sequence[int]) -> list[int]:
    """Number of the sorted rows in each of consecutive parts of these sizes."""
    ends = torch.searchsorted(rows, torch.tensor(sizes).cumsum(0))
    return torch.diff(ends, prepend=torch.zeros(1, dtype=ends.dtype)).tolist()


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
        features, card.coreset_ratio, card.neighbours, card.seed, state["bank"].numpy()
    )
