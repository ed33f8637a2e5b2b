"""Patches of an image as vectors: of an ImageNet backbone, or of SAM's own encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

from pipeline.models.features.backbones import normalised
from pipeline.models.sam.encoders import STRIDE, ImageEncoder
from pipeline.models.sam.views import resize_longest
from pipeline.types import Image

_MOBILENET_LAYERS = (7, 14)  # blocks after which strides are 8 and 16, as of layer2 and layer3


class PatchFeatures(Protocol):
    """An image to vectors (rows, columns, D) of its patches, float32. `card` says what made them;
    `side` is about how many pixels the image was seen at."""

    card: dict[str, Any]
    side: int

    def patches(self, image: Image) -> torch.Tensor:
        """The patches of one image (HWC uint8 RGB)."""
        ...

    def on(self, device: torch.device) -> None:
        """See images by a device from now on."""
        ...


class BackboneFeatures(nn.Module):
    """layer2 and layer3 of a ResNet, or MobileNetV2's blocks of the same strides, each averaged
    over 3 x 3 neighbours and brought to layer2's grid (Roth et al. 2022, section 3.1).
    `PatchFeatures`."""

    def __init__(
        self, name: str, weights: Path | None, sha256: str, side: int, device: torch.device
    ) -> None:
        """`weights` is torchvision's file, or None for random ones; images are squeezed to a square
        of `side` pixels."""
        from torchvision import models

        super().__init__()
        network: Any = getattr(models, name)(weights=None)
        if weights is not None:
            network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        near, far = _cut(name, network.eval())
        self.near, self.far = _quick(near), _quick(far)
        self.side = side
        self.device = device
        self.card = _card(name, sha256, side)
        self.requires_grad_(False).eval()
        self.on(device)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) normalised pixels to (N, D, S/8, S/8)."""
        near = self.near(pixels)
        far = functional.avg_pool2d(self.far(near), 3, 1, 1)
        far = functional.interpolate(far, size=near.shape[2:], mode="bilinear")
        return torch.cat([functional.avg_pool2d(near, 3, 1, 1), far], dim=1)

    @torch.inference_mode()
    def patches(self, image: Image) -> torch.Tensor:
        """See `PatchFeatures`."""
        found: torch.Tensor = self(normalised(image, self.side).to(self.device))
        return found[0].permute(1, 2, 0).cpu()

    def on(self, device: torch.device) -> None:
        """See `PatchFeatures`."""
        self.device = device
        self.to(device)


class DeferredFeatures:
    """`BackboneFeatures` that are made at their first use. `PatchFeatures`."""

    def __init__(self, name: str, weights: Path, sha256: str, side: int) -> None:
        """As `BackboneFeatures`; images are seen by the CPU until told otherwise."""
        self.side = side
        self.card = _card(name, sha256, side)
        self._weights = weights
        self._device = torch.device("cpu")

    @cached_property
    def _features(self) -> BackboneFeatures:
        named = (self.card["features"], self._weights, self.card["weights_sha256"])
        return BackboneFeatures(*named, self.side, self._device)

    def patches(self, image: Image) -> torch.Tensor:
        """See `PatchFeatures`."""
        return self._features.patches(image)

    def on(self, device: torch.device) -> None:
        """See `PatchFeatures`."""
        self._device = device
        if "_features" in vars(self):
            self._features.on(device)


class SamFeatures:
    """What SAM's encoder makes of a whole image, which `segment` has in its cache too.
    `PatchFeatures`."""

    def __init__(self, encoder: ImageEncoder, name: str, sha256: str) -> None:
        self.encoder = encoder
        self.side = encoder.side
        self.card = _card(name, sha256, encoder.side)

    def patches(self, image: Image) -> torch.Tensor:
        """See `PatchFeatures`; the square's empty rest is left out."""
        picture = resize_longest(image, self.side)
        rows, columns = (-(-extent // STRIDE) for extent in picture.shape[:2])
        embedding = torch.from_numpy(self.encoder.encode([picture])[0].astype("float32"))
        seen = functional.avg_pool2d(embedding[None, :, :rows, :columns], 3, 1, 1)
        return seen[0].permute(1, 2, 0)

    def on(self, device: torch.device) -> None:
        """See `PatchFeatures`: an encoder stays where it was made."""


def _card(name: str, sha256: str, side: int) -> dict[str, Any]:
    return {"features": name, "weights_sha256": sha256, "image_side": side}


def _quick(blocks: nn.Module) -> nn.Module:
    """The same answer, MobileNetV2's in half the time on a CPU: each batch norm is folded into
    the convolution before it, and channels lie side by side."""
    return fuse(blocks).to(memory_format=torch.channels_last)


def _cut(name: str, network: Any) -> tuple[nn.Sequential, nn.Sequential]:
    if name.startswith("mobilenet"):
        blocks: Sequence[nn.Module] = list(network.features)
        first, second = _MOBILENET_LAYERS
        return nn.Sequential(*blocks[:first]), nn.Sequential(*blocks[first:second])
    stem = (network.conv1, network.bn1, network.relu, network.maxpool)
    return nn.Sequential(*stem, network.layer1, network.layer2), nn.Sequential(network.layer3)
