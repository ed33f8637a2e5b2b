"""PatchCore: a patch is as strange as it is far from the nearest patch of the good images.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.models.artifact import save_artifact
from pipeline.models.features.coreset import greedy_coreset, projected
from pipeline.models.features.memory_bank import MemoryBank
from pipeline.models.features.patches import PatchFeatures
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.types import AnomalyMap, Image

_SMOOTH = 4.0  # pixels at the side at which images are seen: deviation of the blur, section 3.3
_MOST_PATCHES = 2_000_000


class PatchCore:
    """An `AnomalyModel`."""

    kind = "patchcore"

    def __init__(
        self,
        features: PatchFeatures,
        share: float = 0.1,
        neighbours: int = 9,
        seed: int = 0,
        bank: NDArray[np.float32] | None = None,
    ) -> None:
        """`share` of all patches are kept as the coreset; `neighbours` weigh an image's score.
        `bank` (N, D) is an earlier fit's."""
        keep_freed_memory()
        self.features = features
        self.share, self.neighbours, self.seed = share, neighbours, seed
        self.bank = None if bank is None else MemoryBank(bank)

    def fit(self, images: Iterable[Image]) -> None:
        """See `AnomalyModel`. Patches are held in half precision until the coreset is chosen; of
        more than two million, that many are drawn."""
        parts = []
        for image in images:
            grid = self.features.patches(image)
            parts.append(grid.reshape(-1, grid.shape[2]).half())
        if not parts:
            raise ConfigError("PatchCore needs good images to learn from: there are none")
        total = sum(len(part) for part in parts)
        small = torch.cat([projected(part, self.seed) for part in parts])
        count = max(self.neighbours, round(total * self.share))
        asked = torch.arange(total)
        if total > _MOST_PATCHES:
            generator = torch.Generator().manual_seed(self.seed)
            asked = torch.randperm(total, generator=generator)[:_MOST_PATCHES].sort().values
            small = small[asked]
        chosen = asked[greedy_coreset(small, count, self.seed)].sort().values
        kept = torch.split(chosen, _counts(chosen, [len(part) for part in parts]))
        start = 0
        found = []
        for part, rows in zip(parts, kept, strict=True):  # together they would take twice as much
            found.append(part[rows - start].float())
            start += len(part)
        self.bank = MemoryBank(torch.cat(found).numpy())

    def score(self, image: Image) -> AnomalyMap:
        """See `AnomalyModel`."""
        if self.bank is None:
            raise ConfigError("PatchCore was not fitted")
        grid = self.features.patches(image)
        rows, columns, size = grid.shape
        if size != self.bank.vectors.shape[1]:
            raise ConfigError(f"PatchCore's bank is not of patches of {size} numbers; fit it again")
        patches = grid.reshape(-1, size).numpy()
        distances, nearest = self.bank.search(patches)
        heat = distances[:, 0].reshape(rows, columns)
        worst = int(distances[:, 0].argmax())
        score = float(distances[worst, 0]) * self._weight(patches[worst], int(nearest[worst, 0]))
        return AnomalyMap(score, smooth(heat, self.features.side, image.shape[:2]))

    def _weight(self, patch: NDArray[np.float32], nearest: int) -> float:
        """Equation 7: less where good patches lie close together about the nearest one."""
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
        card = {"kind": self.kind, "share": self.share, "neighbours": self.neighbours}
        card |= {"seed": self.seed, **self.features.card}
        save_artifact(folder, {"bank": torch.from_numpy(self.bank.vectors)}, card)


def _counts(rows: torch.Tensor, sizes: Sequence[int]) -> list[int]:
    """How many of the sorted rows fall into each of consecutive parts."""
    ends = torch.searchsorted(rows, torch.tensor(sizes).cumsum(0))
    return torch.diff(ends, prepend=torch.zeros(1, dtype=ends.dtype)).tolist()


def smooth(heat: NDArray[np.float32], side: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """A map (h, w) of what was seen at a longer side of `side` pixels, blurred there, at an image's
    own (height, width)."""
    scale = side / max(heat.shape)
    width, height = round(heat.shape[1] * scale), round(heat.shape[0] * scale)
    seen = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    blurred = cv2.GaussianBlur(seen, (0, 0), _SMOOTH)
    return np.asarray(
        cv2.resize(blurred, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32
    )


def restored(card: dict[str, Any], state: dict[str, torch.Tensor], features: PatchFeatures) -> Any:
    """The model that `save` wrote."""
    return PatchCore(
        features, card["share"], card["neighbours"], card["seed"], state["bank"].numpy()
    )
