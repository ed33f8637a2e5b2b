"""The defect map of an image of any size: by tiles, in mirrored views, as the mean of several
networks.

Each tile overlaps its neighbours, and only its middle is used: what a network says at the border of
its input is worth less. Memory beyond the image is two bytes a pixel and one tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.models.segmentation.defect_map import FULL, DefectMap
from pipeline.models.segmentation.inference import Inference
from pipeline.models.segmentation.network import STRIDE
from pipeline.models.segmentation.photos import scaled
from pipeline.types import Image

_WHOLE = 1536  # pixels of a side, up to which an image is one tile
_TILE, _MARGIN = 1024, 64  # pixels of a tile, and of its border that is not used
_VALUES = 1 << 26  # probabilities of a tile at most: many categories have smaller tiles
_LEAST = 256  # pixels of the smallest tile
_VIEWS: tuple[tuple[int, ...], ...] = ((), (3,), (2,))  # axes that are mirrored
Span = tuple[int, int]


def predict_map(
    networks: Sequence[Inference], image: Image, scale: float, categories: int
) -> DefectMap:
    """The mean of the networks' probabilities, at the image's own size. The views are dealt to the
    networks, as many to each; together they have every view.

    image: (H, W, 3) uint8 RGB. scale: by which it is resized for the networks.
    """
    height, width = image.shape[:2]
    kind = np.uint8 if categories <= FULL + 1 else np.uint16
    defect, category = np.zeros((height, width), np.uint8), np.zeros((height, width), kind)
    most = max(int((_VALUES / (1 + categories)) ** 0.5), _LEAST)
    for (y0, y1), (inner_y0, inner_y1) in spans(height, scale, most):
        for (x0, x1), (inner_x0, inner_x1) in spans(width, scale, most):
            shares = _tile(networks, image[y0:y1, x0:x1], scale)
            rows, columns = slice(inner_y0 - y0, inner_y1 - y0), slice(inner_x0 - x0, inner_x1 - x0)
            own = shares[:, rows, columns]
            target = slice(inner_y0, inner_y1), slice(inner_x0, inner_x1)
            defect[target] = np.rint((1 - own[0]) * FULL).astype(np.uint8)
            category[target] = own[1:].argmax(axis=0).astype(kind)
    return DefectMap(defect, category, categories)


def spans(length: int, scale: float, most: int = _WHOLE) -> Iterator[tuple[Span, Span]]:
    """Along one axis of the image, each tile, and its part that is used. most: pixels of a
    tile on the network's input. The last tile ends with the image, and is as large as the others.
    """
    if length * scale <= min(most, _WHOLE):
        yield (0, length), (0, length)
        return
    tile, margin = round(min(most, _TILE) / scale), round(_MARGIN / scale)
    used = 0
    while used < length:
        start = max(min(used - margin, length - tile), 0)
        stop = min(start + tile, length)
        last = length if stop == length else stop - margin
        yield (start, stop), (used, last)
        used = last


@torch.inference_mode()
def _tile(networks: Sequence[Inference], image: Image, scale: float) -> NDArray[np.float32]:
    """(1 + C, H, W) probabilities of a tile (H, W, 3)."""
    height, width = image.shape[:2]
    small = scaled(image, scale)
    small_height, small_width = small.shape[:2]
    down, right = -small_height % STRIDE, -small_width % STRIDE
    padded = cv2.copyMakeBorder(small, 0, down, 0, right, cv2.BORDER_REFLECT_101)
    pixels = torch.from_numpy(np.ascontiguousarray(padded)).permute(2, 0, 1)[None].float()
    passes = -(-len(_VIEWS) // len(networks)) * len(networks)  # as many by each network
    total = torch.zeros(())
    for own, network in enumerate(networks):
        dealt = [_VIEWS[row % len(_VIEWS)] for row in range(own, passes, len(networks))]
        logits = network([pixels.flip(axes) if axes else pixels for axes in dealt])
        for axes, each in zip(dealt, logits, strict=True):
            shares = each.softmax(dim=1)
            total = total + (shares.flip(axes) if axes else shares)
    mean = (total / passes)[0, :, :small_height, :small_width].cpu().numpy()
    if (small_height, small_width) == (height, width):
        return np.asarray(mean, np.float32)
    planes = [cv2.resize(plane, (width, height)) for plane in mean]
    return np.stack(planes).astype(np.float32)
