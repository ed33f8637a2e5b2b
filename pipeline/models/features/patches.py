"""Patch features of an image: from an ImageNet backbone, or from SAM's encoder."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np
import torch
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

from pipeline.io.disk_cache import disk_cache, key_of
from pipeline.models.backends import choose_backend
from pipeline.models.features.backbones import normalised
from pipeline.models.openvino_graphs import EntryStore, Graph
from pipeline.models.openvino_offline import load_openvino
from pipeline.models.sam.encoders import STRIDE, ImageEncoder
from pipeline.models.sam.views import resize_longest
from pipeline.types import Image

_CACHE_GB = 20.0
_MOBILENET_LAYERS = (7, 14)  # blocks after which strides are 8 and 16, as of layer2 and layer3


class FeaturesSource(TypedDict):
    """What a model's card keeps of its features.

    features: name of the backbone or SAM. weights_sha256: "" for random weights. image_side: pixels
    of the network's input.
    """

    features: str
    weights_sha256: str
    image_side: int


class PatchFeatures(Protocol):
    """One feature vector for each patch of an image.

    card: the source of the features. side: pixels of the network's input, along the longer side.
    """

    card: FeaturesSource
    side: int

    def patches(self, image: Image) -> torch.Tensor:
        """(rows, columns, D) float32, on the CPU, of an image (H, W, 3) uint8 RGB."""
        ...

    def on(self, device: torch.device) -> None:
        """Move the network to a device."""
        ...


class BackboneFeatures(nn.Module):
    """`PatchFeatures` of layer2 and layer3 of a ResNet, or of MobileNetV2's blocks with the same
    strides. Both are averaged over 3 x 3 neighbours, and layer3 is resized to layer2's grid
    (Roth et al. 2022, section 3.1)."""

    def __init__(
        self, name: str, weights: Path | None, sha256: str, side: int, device: torch.device
    ) -> None:
        """weights: torchvision's file, or None for random weights. Images are resized to a square
        of `side` pixels, whatever their aspect ratio."""
        from torchvision import models

        super().__init__()
        network: Any = getattr(models, name)(weights=None)
        if weights is not None:
            network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        near, far = _blocks(name, network.eval())
        self.near, self.far = _fused(near), _fused(far)
        self.side = side
        self.device = device
        self.card = FeaturesSource(features=name, weights_sha256=sha256, image_side=side)
        self.requires_grad_(False).eval()
        self.on(device)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features (N, D, S/8, S/8) of normalised pixels (N, 3, S, S)."""
        near = self.near(pixels)
        far = functional.avg_pool2d(self.far(near), 3, 1, 1)
        far = functional.interpolate(far, size=near.shape[2:], mode="bilinear")
        return torch.cat([functional.avg_pool2d(near, 3, 1, 1), far], dim=1)

    @torch.inference_mode()
    def patches(self, image: Image) -> torch.Tensor:
        """See `PatchFeatures`."""
        pixels = normalised(image, self.side)
        if choose_backend("auto", self.device) == "openvino":
            found = self._graph.compiled(pixels.contiguous().numpy())[0]
            return torch.from_numpy(np.array(found[0], np.float32)).permute(1, 2, 0)
        features: torch.Tensor = self(pixels.to(self.device))
        return features[0].permute(1, 2, 0).cpu()

    def on(self, device: torch.device) -> None:
        """See `PatchFeatures`."""
        self.device = device
        self.to(device)

    @cached_property
    def _graph(self) -> Graph:
        """Single precision: in bfloat16 a feature is off by a thirtieth."""
        state = self.state_dict()
        about = f"patches {self.card['features']} {self.side} {load_openvino().__version__}"
        weights = (value.contiguous().numpy().data for _, value in sorted(state.items()))
        store = EntryStore(disk_cache(_CACHE_GB), key_of(about, *weights))
        return Graph(store, self._traced, "f32")

    def _traced(self, openvino: Any) -> Any:
        sample = torch.zeros(1, 3, self.side, self.side)
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's tracer on what is constant here
            return openvino.convert_model(self, example_input=sample, input=[sample.shape])


class DeferredFeatures:
    """`BackboneFeatures` whose network is loaded at first use."""

    def __init__(self, name: str, weights: Path, sha256: str, side: int) -> None:
        """As `BackboneFeatures`, on the CPU until `on` moves it."""
        self.side = side
        self.card = FeaturesSource(features=name, weights_sha256=sha256, image_side=side)
        self._weights = weights
        self._device = torch.device("cpu")

    @cached_property
    def _features(self) -> BackboneFeatures:
        name, sha256 = self.card["features"], self.card["weights_sha256"]
        return BackboneFeatures(name, self._weights, sha256, self.side, self._device)

    def patches(self, image: Image) -> torch.Tensor:
        """See `PatchFeatures`."""
        return self._features.patches(image)

    def on(self, device: torch.device) -> None:
        """See `PatchFeatures`."""
        self._device = device
        if "_features" in vars(self):
            self._features.on(device)


class SamFeatures:
    """`PatchFeatures` of SAM's encoder on a whole image."""

    def __init__(self, encoder: ImageEncoder, name: str, sha256: str) -> None:
        self.encoder = encoder
        self.side = encoder.side
        self.card = FeaturesSource(features=name, weights_sha256=sha256, image_side=encoder.side)

    def patches(self, image: Image) -> torch.Tensor:
        """See `PatchFeatures`; without the patches of the square's padding."""
        resized = resize_longest(image, self.side)
        rows, columns = (-(-extent // STRIDE) for extent in resized.shape[:2])
        embedding = torch.from_numpy(self.encoder.encode([resized])[0].astype("float32"))
        averaged = functional.avg_pool2d(embedding[None, :, :rows, :columns], 3, 1, 1)
        return averaged[0].permute(1, 2, 0)

    def on(self, device: torch.device) -> None:
        """No effect: an encoder stays on its device."""


def _fused(blocks: nn.Module) -> nn.Module:
    """The same blocks, faster: each batch norm is folded into the convolution before it, and
    channels come last in memory. MobileNetV2 needs half the time on a CPU."""
    return fuse(blocks).to(memory_format=torch.channels_last)


def _blocks(name: str, network: Any) -> tuple[nn.Sequential, nn.Sequential]:
    """The blocks to a stride of 8, and those from there to a stride of 16."""
    if name.startswith("mobilenet"):
        blocks: Sequence[nn.Module] = list(network.features)
        first, second = _MOBILENET_LAYERS
        return nn.Sequential(*blocks[:first]), nn.Sequential(*blocks[first:second])
    stem = (network.conv1, network.bn1, network.relu, network.maxpool)
    return nn.Sequential(*stem, network.layer1, network.layer2), nn.Sequential(network.layer3)
