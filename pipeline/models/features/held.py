"""Patch features that are computed once for each image, and used again."""

from __future__ import annotations

import hashlib

import torch

from pipeline.models.features.patches import FeaturesSource, PatchFeatures
from pipeline.types import Image

HELD_BYTES = 512 << 20


class HeldFeatures:
    """`PatchFeatures` of another one, which hold the first images' patches in memory.

    Cross-validation asks for each image's patches once for every fold. Images beyond the limit are
    computed again. Patches are rounded to half precision, held or not: both give the same bytes.
    """

    def __init__(self, features: PatchFeatures, limit: int = HELD_BYTES) -> None:
        """limit: bytes to hold at most."""
        self._features = features
        self._limit = limit
        self._held: dict[bytes, torch.Tensor] = {}
        self.card: FeaturesSource = features.card
        self.side = features.side

    def patches(self, image: Image) -> torch.Tensor:
        """See `PatchFeatures`; an image is known by its pixels and size."""
        key = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()
        grid = self._held.get(key)
        if grid is None:
            grid = self._features.patches(image).half()
            self._limit -= grid.nbytes
            if self._limit >= 0:
                self._held[key] = grid
        return grid.float()

    def on(self, device: torch.device) -> None:
        """See `PatchFeatures`."""
        self._features.on(device)
