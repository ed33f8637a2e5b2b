"""What a segmentation model predicts of an image, and the regions that it names."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.masks import encode_patches
from pipeline.geometry.patches import Patch, components, tight
from pipeline.types import Detections

Bytes = NDArray[np.uint8]
FULL = 255  # the value of a probability of 1
_RING = 24  # pixels


@dataclass(frozen=True)
class DefectMap:
    """defect: (H, W) uint8, the probability of a defect at each pixel times 255. category: (H, W)
    uint8 or uint16, the likeliest category there, were it a defect. categories: how many."""

    defect: Bytes
    category: NDArray[np.uint8] | NDArray[np.uint16]
    categories: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.defect.shape[0], self.defect.shape[1]

    def heatmap(self) -> NDArray[np.float32]:
        """(H, W) float32 in [0, 1]."""
        return np.asarray(self.defect, np.float32) / np.float32(FULL)


@dataclass(frozen=True)
class RegionOptions:
    """What counts as one defect.

    threshold: probability in (0, 1) from which a pixel is part of one. bridge_gap: pixels between
    parts of one. min_area: pixels of the smallest. best_outline: each region gets the outline with
    the highest expected IoU, see `outlined`, in place of the threshold's.
    """

    threshold: float = 0.5
    bridge_gap: int = 0
    min_area: int = 4
    best_outline: bool = False

    @property
    def level(self) -> int:
        """The value of a map from which a pixel is part of a region."""
        return max(round(self.threshold * FULL), 1)


@dataclass(frozen=True)
class Region:
    """A part of an image that is likely a defect. shares: (C,) of its pixels by category. mean,
    peak: of the probability in it. edge: mean step of the probability across its outline, higher
    for one that is clear."""

    patch: Patch
    shares: NDArray[np.float64]
    mean: float
    peak: float
    edge: float

    @property
    def label(self) -> int:
        """The category of most pixels."""
        return int(self.shares.argmax())


def regions(found: DefectMap, options: RegionOptions) -> list[Region]:
    """The regions of a map, from top to bottom. Time and memory follow the regions' size."""
    level = options.level
    patches = components(np.asarray(found.defect >= level), options.bridge_gap)
    kept = [patch for patch in patches if patch.area >= options.min_area]
    if options.best_outline:
        kept = [outlined(found, patch, level) for patch in kept]
    return [measure_region(found, patch) for patch in kept]


def outlined(found: DefectMap, patch: Patch, level: int) -> Patch:
    """A region from `level` on, with the outline of the highest expected IoU: of all levels of the
    map the one whose pixels, each a defect with its own probability, share most with the defect
    (Nowozin, CVPR 2014). A faint defect is so outlined lower than a clear one.

    The outline stays within `_RING` pixels of the region, and outside of other regions.
    """
    height, width = patch.pixels.shape
    y0, x0 = max(patch.y - _RING, 0), max(patch.x - _RING, 0)
    around = found.defect[y0 : patch.y + height + _RING, x0 : patch.x + width + _RING]
    own = np.zeros(around.shape, bool)
    own[patch.y - y0 :, patch.x - x0 :][:height, :width] = patch.pixels
    free = (around < level) | own
    best = min(_best_level(around[free]), int(around[own].max()))
    _, numbers = cv2.connectedComponents((free & (around >= best)).astype(np.uint8), connectivity=8)
    joined = np.zeros(int(numbers.max()) + 1, bool)
    joined[numbers[own]] = True
    joined[0] = False
    return tight(joined[numbers], x0, y0)


def _best_level(values: Bytes) -> int:
    """The level from 1 to 255 whose pixels have the highest expected IoU with the defect. values:
    255 times the probability of each pixel."""
    counts = np.bincount(values, minlength=FULL + 1).astype(np.float64)
    likely = counts * np.arange(FULL + 1) / FULL
    area, shared = np.cumsum(counts[::-1])[::-1], np.cumsum(likely[::-1])[::-1]
    expected = shared / np.maximum(area + shared[0] - shared, 1e-9)
    return 1 + int(expected[1:].argmax())


def as_detections(found: DefectMap, parts: list[Region]) -> Detections:
    """The regions as detections with masks; the score is the mean probability."""
    if not parts:
        return Detections.none()
    masks = tuple(encode_patches([part.patch for part in parts], *found.size))
    return Detections(
        mask_geometry.bounding_boxes(masks),
        np.array([part.label for part in parts], np.int64),
        np.array([part.mean for part in parts], np.float32),
        masks,
    )


def measure_region(found: DefectMap, patch: Patch) -> Region:
    """The figures of the pixels of a patch, which lies inside the image."""
    x0, y0, x1, y1 = patch.box
    values = found.defect[y0:y1, x0:x1][patch.pixels].astype(np.float64) / FULL
    labels = found.category[y0:y1, x0:x1][patch.pixels]
    votes = np.bincount(labels.ravel(), weights=values, minlength=found.categories)
    return Region(
        patch,
        votes / max(float(votes.sum()), 1e-9),
        float(values.mean()),
        float(values.max()),
        _edge(found, patch),
    )


def _edge(found: DefectMap, patch: Patch) -> float:
    """The mean probability just inside of a region minus that just outside."""
    height, width = found.size
    x0, y0, x1, y1 = patch.box
    x0, y0, x1, y1 = max(x0 - 3, 0), max(y0 - 3, 0), min(x1 + 3, width), min(y1 + 3, height)
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    mask[patch.y - y0 :, patch.x - x0 :][: patch.pixels.shape[0], : patch.pixels.shape[1]] = (
        patch.pixels
    )
    kernel = np.ones((5, 5), np.uint8)
    outside = cv2.dilate(mask, kernel).astype(bool) & ~mask.astype(bool)
    inside = mask.astype(bool) & ~cv2.erode(mask, kernel).astype(bool)
    values = found.defect[y0:y1, x0:x1].astype(np.float64) / FULL
    low = float(values[outside].mean()) if outside.any() else 0.0
    return float(values[inside].mean()) - low if inside.any() else 0.0
