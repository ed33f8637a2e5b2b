"""One vector for an image: what the encoder of a trained segmenter sees, on the whole image and
where a defect is."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.models.segmentation.model import DefectSegmenter
from pipeline.models.segmentation.network import STRIDE
from pipeline.models.segmentation.photos import scaled
from pipeline.types import Image

_STAGE = 4  # stages of the encoder that are run: to stride 16
_LONGEST = 1024  # pixels of the network's input; a larger one is shrunk


@torch.inference_mode()
def embed(model: DefectSegmenter, image: Image, heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """(2 D,) float32: the mean over the image (H, W, 3), then the mean weighted by `heat` (H, W),
    the probability of a defect; each half has length 1."""
    longest = max(image.shape[:2])
    small = scaled(image, min(model.scale, _LONGEST / longest))
    down, right = -small.shape[0] % STRIDE, -small.shape[1] % STRIDE
    padded = cv2.copyMakeBorder(small, 0, down, 0, right, cv2.BORDER_REFLECT_101)
    pixels = torch.from_numpy(np.ascontiguousarray(padded)).permute(2, 0, 1)[None]
    network = model.members[0].network
    mean = network.get_buffer("mean")
    layer = (pixels.to(mean.device, torch.float32) - mean) / network.get_buffer("spread")
    for stage in list(network.stages)[:_STAGE]:
        layer = stage(layer)
    features = layer[0].float().cpu().numpy().reshape(layer.shape[1], -1)
    size = int(layer.shape[3]), int(layer.shape[2])
    weights = cv2.resize(heat, size, interpolation=cv2.INTER_AREA).reshape(-1) + 1e-6
    halves = features.mean(axis=1), features @ (weights / weights.sum())
    return np.concatenate([_unit(half) for half in halves]).astype(np.float32)


def _unit(vector: NDArray[np.floating]) -> NDArray[np.floating]:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
