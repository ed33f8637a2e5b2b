"""torchvision's ImageNet backbones, split into a frozen trunk and a trainable head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from pipeline.errors import WeightsError
from pipeline.models.weights.store import Weights, WeightsStore
from pipeline.runtime.progress import say
from pipeline.types import Image

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, RGB in [0, 1]
# Blocks in the frozen trunk, by the first part that is trained.
_RESNET_FROZEN = {"all": 0, "layer3": 3, "layer4": 4, "head": 5}
_MOBILENET_FROZEN = {"all": 0, "layer3": 7, "layer4": 14, "head": 19}  # the same strides


def normalised(image: Image, side: int) -> torch.Tensor:
    """The input of a backbone: (1, 3, side, side) float32.

    image: (H, W, 3) uint8 RGB. It is resized to a square, whatever its aspect ratio, and
    standardised with ImageNet's mean and standard deviation.
    """
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    pixels = small.astype(np.float32) / 255
    pixels -= np.array(MEAN, np.float32)
    pixels /= np.array(STD, np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


@dataclass(frozen=True)
class SplitBackbone:
    """trunk: frozen, in evaluation mode. head: trainable; its last layer returns C logits."""

    trunk: nn.Sequential
    head: nn.Sequential


def load_backbone(name: str, weights: Path | None) -> Any:
    """torchvision's backbone of a name. weights: its file, or None for random weights."""
    from torchvision import models

    network = getattr(models, name)(weights=None)
    if weights is not None:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network


def split_backbone(
    name: str, weights: Path | None, categories: int, unfreeze: str
) -> SplitBackbone:
    """A backbone with a new last layer, whose blocks from `unfreeze` on are trainable.

    name: `resnet18`, `resnet50`, `wide_resnet50_2` or `mobilenet_v2`. weights: torchvision's file,
    or None for random weights. unfreeze: `all`, `layer3`, `layer4` or `head`. In MobileNetV2,
    blocks 7-13 count as layer3 and 14-18 as layer4: they have the same strides.
    """
    network = load_backbone(name, weights)
    blocks, frozen, width = _blocks(name, network, unfreeze)
    trunk = nn.Sequential(*blocks[:frozen])
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(width, categories)]
    trunk.requires_grad_(False).eval()
    return SplitBackbone(trunk, nn.Sequential(*blocks[frozen:], *last))


def pretrained_weights(name: str, pretrained: str) -> Weights | None:
    """ImageNet weights of a backbone, checked against their sha256; None for random weights.

    pretrained: `yes`, `no` or `auto`. With `auto`, weights that are not available are reported,
    and random ones are used. Raises WeightsError for `yes` if they are not available.
    """
    if pretrained == "no":
        return None
    try:
        return WeightsStore().get(name)
    except WeightsError as error:
        if pretrained == "yes":
            raise
        say(f"{error}")
        say(f"{name} starts from random weights: expect poor results")
        return None


def _blocks(name: str, network: Any, unfreeze: str) -> tuple[list[nn.Module], int, int]:
    """The blocks in order, the number of frozen blocks, and the number of output channels."""
    if name.startswith("mobilenet"):
        blocks = list(network.features)
        return blocks, _MOBILENET_FROZEN[unfreeze], network.last_channel
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    blocks = [stem, network.layer1, network.layer2, network.layer3, network.layer4]
    return blocks, _RESNET_FROZEN[unfreeze], network.fc.in_features
