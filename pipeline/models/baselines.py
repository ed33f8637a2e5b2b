"""Baselines for SAM: the filled box, a mean shape, GrabCut. `Segmenter`s without weights."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import Boxes, whole_pixels
from pipeline.types import Image, Mask, Masks, Rle


class BoxFillSegmenter:
    """The mask is the box, filled in."""

    def segment(self, image: Image, boxes: Boxes) -> Masks:
        """One filled box per box."""
        height, width = image.shape[:2]
        return _masks([mask_geometry.from_box(box, height, width) for box in boxes])


class GrabCutSegmenter:
    """GrabCut in the box (Rother et al., SIGGRAPH 2004), seeded by the box's centre."""

    def __init__(
        self, iterations: int = 2, margin: float = 0.5, core: float = 0.45, longest: int = 320
    ) -> None:
        """`margin`: share of the box's side that is added around it as certain background. `core`:
        share of the side, in the middle, that is certain foreground; without it GrabCut finds
        nothing on most defects, which resemble their surroundings. A crop longer than `longest`
        pixels is shrunk to that, because GrabCut's time grows with the area.
        """
        self.iterations = iterations
        self.margin = margin
        self.core = core
        self.longest = longest

    def segment(self, image: Image, boxes: Boxes) -> Masks:
        """One mask per box; where GrabCut finds no foreground, the mask is empty and failed."""
        return _masks([mask_geometry.encode(self._mask(image, box)) for box in boxes])

    def _mask(self, image: Image, box: NDArray[np.float32]) -> Mask:
        height, width = image.shape[:2]
        mask = np.zeros((height, width), dtype=bool)
        x0, y0, x1, y1 = whole_pixels(box, height, width)
        if x1 <= x0 or y1 <= y0:
            return mask
        pad_x = max(8, round((x1 - x0) * self.margin))
        pad_y = max(8, round((y1 - y0) * self.margin))
        left, top = max(x0 - pad_x, 0), max(y0 - pad_y, 0)
        crop = image[top : y1 + pad_y, left : x1 + pad_x, ::-1]
        labels = self._seeds((x0 - left, y0 - top, x1 - left, y1 - top), crop.shape[:2])
        mask[top : top + crop.shape[0], left : left + crop.shape[1]] = self._grow(crop, labels)
        return mask

    def _seeds(self, box: tuple[int, int, int, int], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Certain background around the box, certain foreground in its core, the rest open."""
        x0, y0, x1, y1 = box
        labels = np.full(size, cv2.GC_BGD, np.uint8)
        labels[y0:y1, x0:x1] = cv2.GC_PR_FGD
        across, down = (round(side * (1 - self.core) / 2) for side in (x1 - x0, y1 - y0))
        labels[y0 + down : y1 - down, x0 + across : x1 - across] = cv2.GC_FGD
        return labels

    def _grow(self, crop: Image, labels: NDArray[np.uint8]) -> Mask:
        height, width = labels.shape
        scale = min(1.0, self.longest / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
        seeds = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
        labels_present = set(np.unique(seeds).tolist())
        if cv2.GC_BGD in labels_present and len(labels_present) > 1:
            cv2.setRNGSeed(0)
            state = np.zeros((2, 1, 65), np.float64)
            no_box, mode = (0, 0, 0, 0), cv2.GC_INIT_WITH_MASK
            cv2.grabCut(small, seeds, no_box, state[0], state[1], self.iterations, mode)
        foreground = ((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)).astype(np.uint8)
        full = cv2.resize(foreground, (width, height), interpolation=cv2.INTER_NEAREST)
        return np.asarray(full > 0)


def _masks(rles: list[Rle]) -> Masks:
    failed = np.array([mask_geometry.area(rle) == 0 for rle in rles], dtype=bool)
    return Masks(tuple(rles), failed)


class MeanShapeSegmenter:
    """The mean of training masks, each stretched to its box and mirrored both ways, at the
    threshold with the best mean IoU. It does not depend on the image."""

    def __init__(self, masks: Sequence[Mask], side: int = 64) -> None:
        """`masks`: at least one, (h, w), each cropped to its box."""
        shapes = np.stack(
            [
                cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
                for mask in masks
            ]
        )
        mean = shapes.mean(axis=0)
        self._mean = (mean + mean[::-1] + mean[:, ::-1] + mean[::-1, ::-1]) / 4

        def mean_iou(level: float) -> float:
            shape = self._mean > level
            shared, union = np.minimum(shapes, shape), np.maximum(shapes, shape)
            return float((shared.sum(axis=(1, 2)) / union.sum(axis=(1, 2))).mean())

        self._level = max(np.arange(0.1, 0.9, 0.02), key=mean_iou)

    def segment(self, image: Image, boxes: Boxes) -> Masks:
        """One mean shape per box."""
        height, width = image.shape[:2]
        rles = []
        for box in boxes:
            mask = np.zeros((height, width), dtype=bool)
            x0, y0, x1, y1 = whole_pixels(box, height, width)
            if x1 > x0 and y1 > y0:
                size = (x1 - x0, y1 - y0)
                mask[y0:y1, x0:x1] = cv2.resize(self._mean, size) > self._level
            rles.append(mask_geometry.encode(mask))
        return _masks(rles)
