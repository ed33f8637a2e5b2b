"""What SAM has to beat: the box itself, and GrabCut. `Segmenter`s without weights."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import Boxes, whole_pixels
from pipeline.types import Image, Mask, Masks, Rle


class BoxFillSegmenter:
    """The mask is the box, filled in."""

    def segment(self, image: Image, boxes: Boxes) -> Masks:
        """One filled box per box; predicted IoU and stability are 0, for it has no opinion."""
        height, width = image.shape[:2]
        return _masks([mask_geometry.from_box(box, height, width) for box in boxes])


class GrabCutSegmenter:
    """GrabCut from the box (Rother et al., SIGGRAPH 2004), on a crop with a margin around it."""

    def __init__(self, iterations: int = 5, margin: float = 0.5) -> None:
        """`margin`: how much of the box's side is added around it as certain background."""
        self.iterations = iterations
        self.margin = margin

    def segment(self, image: Image, boxes: Boxes) -> Masks:
        """One mask per box; where GrabCut finds no foreground, the mask is empty and failed."""
        return _masks([mask_geometry.encode(self._cut(image, box)) for box in boxes])

    def _cut(self, image: Image, box: Boxes) -> Mask:
        height, width = image.shape[:2]
        mask = np.zeros((height, width), dtype=bool)
        x0, y0, x1, y1 = whole_pixels(box, height, width)
        if x1 <= x0 or y1 <= y0:
            return mask
        pad_x = max(8, round((x1 - x0) * self.margin))
        pad_y = max(8, round((y1 - y0) * self.margin))
        left, top = max(x0 - pad_x, 0), max(y0 - pad_y, 0)
        crop = np.ascontiguousarray(image[top : y1 + pad_y, left : x1 + pad_x, ::-1])
        labels = np.full(crop.shape[:2], cv2.GC_BGD, np.uint8)
        labels[y0 - top : y1 - top, x0 - left : x1 - left] = cv2.GC_PR_FGD
        if (labels == cv2.GC_BGD).any():
            cv2.setRNGSeed(0)
            state = np.zeros((2, 1, 65), np.float64)
            cv2.grabCut(
                crop,
                labels,
                (0, 0, 0, 0),
                state[0],
                state[1],
                self.iterations,
                cv2.GC_INIT_WITH_MASK,
            )
        found = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
        mask[top : top + crop.shape[0], left : left + crop.shape[1]] = found
        return mask


def _masks(rles: list[Rle]) -> Masks:
    zeros = np.zeros(len(rles), dtype=np.float32)
    failed = np.array([mask_geometry.area(rle) == 0 for rle in rles], dtype=bool)
    return Masks(tuple(rles), zeros, zeros.copy(), failed)
