"""Random crops of labelled photos, which a network learns from.

Two of three crops hold a defect, each category as often as any other half of the time; the others
lie anywhere, most on good surface. The crop of a step depends on the seed and the step alone, so
that a stopped training goes on with the same ones.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.models.segmentation.photos import LabelMap, ScaledPhotos
from pipeline.types import Image

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

SIDE = 256  # pixels of a crop
Pixels = TypeVar("Pixels", Image, LabelMap)
_ON_DEFECT = 0.65  # share of the crops that hold a defect
_BALANCED = 0.5  # share of these whose category is drawn first
_LARGEST_TURN, _TURNED = 12.0, 0.5  # degrees, and the share of crops that are turned
_LARGEST_ZOOM = 0.25  # logarithm
_REACH = 224  # pixels from a centre to what a crop holds: 128, shrunk by exp(-0.25) and turned


class CropSampler:
    """Draws crops (256, 256) of some photos."""

    def __init__(self, photos: ScaledPhotos, rows: Sequence[int], seed: int) -> None:
        """rows: the photos that are used. Raises ValueError without one."""
        if not rows:
            raise ValueError("there is no photo to learn from")
        self._photos, self._rows, self._seed = photos, list(rows), seed
        self._objects: dict[int, list[tuple[int, NDArray[np.float32]]]] = {}
        for row in rows:
            objects = photos.photos[row].objects
            for label, box in zip(objects.labels.tolist(), objects.boxes, strict=True):
                self._objects.setdefault(label, []).append((row, box * photos.scale))
        self._all = [one for label in sorted(self._objects) for one in self._objects[label]]
        self._augment = _augmentations()

    def batch(self, step: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The crops of a step: (N, 3, 256, 256) float32 in [0, 255], and their categories
        (N, 256, 256) int64, 0 for background. Raises DataError for a photo that cannot be read."""
        generator = np.random.default_rng((self._seed, step))
        self._augment.set_random_seed(int(generator.integers(1 << 31)))
        images, labels = zip(*(self._crop(generator) for _ in range(count)), strict=True)
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
        return pixels.contiguous(memory_format=torch.channels_last), torch.from_numpy(
            np.stack(labels).astype(np.int64)
        )

    def _crop(self, generator: np.random.Generator) -> tuple[Image, LabelMap]:
        row, (y, x) = self._place(generator)
        image, labels = self._photos.get(row)
        zoom = float(np.exp(generator.uniform(-_LARGEST_ZOOM, _LARGEST_ZOOM)))
        turned = generator.random() < _TURNED
        angle = float(generator.uniform(-_LARGEST_TURN, _LARGEST_TURN)) if turned else 0.0
        image, (top, left) = _window(image, y, x)  # OpenCV's warp takes 32,767 pixels at most
        labels, _ = _window(labels, y, x)
        y, x = y - top, x - left
        matrix = cv2.getRotationMatrix2D((x, y), angle, zoom)
        matrix[:, 2] += np.array([SIDE / 2 - x, SIDE / 2 - y])
        border = cv2.BORDER_REFLECT_101
        crop = cv2.warpAffine(image, matrix, (SIDE, SIDE), borderMode=border)
        own = cv2.warpAffine(
            labels, matrix, (SIDE, SIDE), flags=cv2.INTER_NEAREST, borderMode=border
        )
        for axis in (0, 1):
            if generator.random() < 0.5:
                crop, own = np.flip(crop, axis), np.flip(own, axis)
        changed = self._augment(image=np.ascontiguousarray(crop))["image"]
        return np.asarray(changed, np.uint8), np.ascontiguousarray(own)

    def _place(self, generator: np.random.Generator) -> tuple[int, tuple[float, float]]:
        """A photo, and the centre (y, x) of a crop that leaves the photo only where it must."""
        if self._all and generator.random() < _ON_DEFECT:
            pool = self._all
            if generator.random() < _BALANCED:
                labels = sorted(self._objects)
                pool = self._objects[labels[generator.integers(len(labels))]]
            row, box = pool[generator.integers(len(pool))]
            spread = generator.normal(0, SIDE / 6, 2)
            x, y = box[:2] + generator.random(2) * (box[2:] - box[:2]) + spread
        else:
            row = self._rows[generator.integers(len(self._rows))]
            height, width = self._photos.size(row)
            y, x = generator.uniform(0, height), generator.uniform(0, width)
        height, width = self._photos.size(row)
        return row, (_inside(float(y), height), _inside(float(x), width))


def _window(pixels: Pixels, y: float, x: float) -> tuple[Pixels, tuple[int, int]]:
    """The part of an image that a crop about (y, x) may hold, and its top left pixel."""
    top, left = max(int(y) - _REACH, 0), max(int(x) - _REACH, 0)
    return pixels[top : int(y) + _REACH, left : int(x) + _REACH], (top, left)


def _inside(centre: float, length: int) -> float:
    """The centre of a crop along one axis, moved inside; the middle of a photo that is smaller."""
    if length <= SIDE:
        return length / 2
    return min(max(centre, SIDE / 2), length - SIDE / 2)


def _augmentations() -> Any:  # albumentations has no types
    import albumentations as A

    return A.Compose(
        [
            A.RandomBrightnessContrast(0.2, 0.2, p=0.6),
            A.HueSaturationValue(6, 12, 8, p=0.3),
            A.GaussNoise(std_range=(0.01, 0.04), p=0.3),
            A.GaussianBlur((3, 5), p=0.2),
        ]
    )
