"""torchvision's ImageNet backbones, cut in two: a trunk that stays, and a head that learns."""

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
_MOBILENET_CUT = {"all": 0, "layer3": 7, "layer4": 14, "head": 19}


def normalised(image: Image, side: int) -> torch.Tensor:
    """(1, 3, side, side) float32 as the backbones were trained on: the image squeezed to a square,
    less ImageNet's mean, over its deviation."""
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    pixels = small.astype(np.float32) / 255
    pixels -= np.array(MEAN, np.float32)
    pixels /= np.array(STD, np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


@dataclass(frozen=True)
class SplitBackbone:
    """trunk: frozen, in evaluation mode. head: learns; its last layer gives C logits."""

    trunk: nn.Sequential
    head: nn.Sequential


def split_backbone(
    name: str, weights: Path | None, categories: int, unfreeze: str
) -> SplitBackbone:
    """A backbone whose blocks from `unfreeze` on learn, with a new last layer.

    name: `resnet18`, `resnet50`, `wide_resnet50_2` or `mobilenet_v2`. weights: torchvision's file,
    or None for random ones. unfreeze: `all`, `layer3`, `layer4` or `head`. MobileNetV2's blocks
    14-18 stand for layer4, 7-13 for layer3: the same strides.
    """
    from torchvision import models

    network: Any = getattr(models, name)(weights=None)
    if weights is not None:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    blocks, cut, features = _parts(name, network, unfreeze)
    trunk, rest = nn.Sequential(*blocks[:cut]), blocks[cut:]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(features, categories)]
    trunk.requires_grad_(False).eval()
    return SplitBackbone(trunk, nn.Sequential(*rest, *tail))


def pretrained_weights(name: str, pretrained: str) -> Weights | None:
    """ImageNet's weights of a backbone, checked; None for random ones.

    pretrained: `yes`, `no`, or `auto`, which tells where they cannot be had and goes on at random.
    Raises WeightsError for `yes` where they cannot be had.
    """
    if pretrained == "no":
        return None
    try:
        return WeightsStore().get(name)
    except WeightsError as error:
        if pretrained == "yes":
            raise
        say(f"{error}")
        say(f"{name} starts from random weights: expect a poor classifier")
        return None


def _parts(name: str, network: Any, unfreeze: str) -> tuple[list[nn.Module], int, int]:
    """The blocks in order, how many of them stay frozen, and how many features come out."""
    if name.startswith("mobilenet"):
        blocks = list(network.features)
        return blocks, _MOBILENET_CUT[unfreeze], network.last_channel
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    blocks = [stem, network.layer1, network.layer2, network.layer3, network.layer4]
    cut = {"all": 0, "layer3": 3, "layer4": 4, "head": 5}[unfreeze]
    return blocks, cut, network.fc.in_features
