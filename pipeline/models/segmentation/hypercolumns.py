"""Features of each place of an image: the layers of an ImageNet backbone above each other
(hypercolumns, Hariharan et al., CVPR 2015). Fine layers tell where an edge is, deep ones what
surrounds it. The backbone is not trained."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

from pipeline.models.features.backbones import MEAN, STD, load_backbone
from pipeline.models.weights.store import Weights
from pipeline.types import Image

BACKBONE = "mobilenet_v2"
STRIDE = 4  # pixels between two places
WIDTH = 488  # features of a place
_LONGEST = 1024  # pixels of an image's longer side; larger images are shrunk
_CUTS = (0, 2, 4, 7, 14, 18)  # blocks of strides 2, 4, 8, 16 and 32
_GRID = 1  # the layer of stride 4
_LEAST = 32  # pixels of a side


class Hypercolumns:
    """MobileNetV2's layers of strides 2 to 32, at stride 4."""

    def __init__(self, weights: Weights | None, device: torch.device) -> None:
        """weights: torchvision's file, or None for random weights."""
        network = load_backbone(BACKBONE, weights.path if weights else None)
        blocks = list(network.eval().features)
        self._layers = [
            fuse(nn.Sequential(*blocks[start:stop]))
            .to(memory_format=torch.channels_last)
            .to(device)
            for start, stop in pairwise(_CUTS)
        ]
        self._device = device

    @torch.inference_mode()
    def of(self, image: Image) -> torch.Tensor:
        """(h, w, 488) float32 on the CPU, of an image (H, W, 3) uint8 RGB: a place for each 4 x 4
        pixels of the image, shrunk to a longer side of 1024 where that is larger."""
        height, width = image.shape[:2]
        scale = min(1.0, _LONGEST / max(height, width))
        size = max(round(width * scale), _LEAST), max(round(height * scale), _LEAST)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        pixels = (small.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(
            STD, np.float32
        )
        layer = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self._device)
        layers = []
        for blocks in self._layers:
            layer = blocks(layer)
            layers.append(layer)
        grid = layers[_GRID].shape[2:]
        columns = [functional.adaptive_avg_pool2d(layers[0], grid)]
        columns += [
            functional.interpolate(each, size=grid, mode="bilinear", align_corners=False)
            for each in layers[1:]
        ]
        return torch.cat(columns, dim=1)[0].permute(1, 2, 0).cpu()
