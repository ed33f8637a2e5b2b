"""Masks as (H, W) bool, and RLE as pycocotools writes it: the truth for pixels everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline.geometry.boxes import Boxes, as_boxes

Mask = NDArray[np.bool_]


class Rle(TypedDict):
    """COCO's compressed run-length encoding: `size` is [height, width]."""

    size: list[int]
    counts: bytes


def encode(mask: Mask) -> Rle:
    """Encode a mask (H, W) without any loss."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return Rle(size=[int(side) for side in rle["size"]], counts=rle["counts"])


def decode(rle: Rle) -> Mask:
    """Decode an RLE to (H, W) bool."""
    return np.asarray(coco_mask.decode(rle), dtype=bool)


def area(rle: Rle) -> int:
    """Number of pixels."""
    return int(coco_mask.area(rle))


def bounding_boxes(rles: Sequence[Rle]) -> Boxes:
    """(N, 4) half-open xyxy boxes; an empty mask has the box (0, 0, 0, 0)."""
    if not rles:
        return as_boxes([])
    boxes = coco_mask.toBbox(list(rles))
    boxes[:, 2:] += boxes[:, :2]
    return as_boxes(boxes)


def iou(first: Sequence[Rle], second: Sequence[Rle]) -> NDArray[np.float64]:
    """(N, M) intersection over union by pycocotools; (N, M) zeros where either is empty."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    return np.asarray(coco_mask.iou(list(first), list(second), [0] * len(second)))


def paired_iou(first: Rle, second: Rle) -> float:
    """IoU of two masks; two empty masks agree perfectly (1.0)."""
    if area(first) == 0 and area(second) == 0:
        return 1.0
    return float(iou([first], [second])[0, 0])


def from_box(box: NDArray[np.float32], height: int, width: int) -> Rle:
    """The mask of a box filled in: pixels whose centre lies inside it."""
    x0, y0, x1, y1 = np.clip(np.ceil(box - 0.5), 0, [width, height, width, height]).astype(int)
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return encode(mask)


def components(mask: Mask, bridge_gap: int = 0) -> list[Mask]:
    """Split a mask into its 8-connected instances, in the order of their topmost pixels.

    Parts with at most `bridge_gap` background pixels between them, along a row, a column or a
    diagonal, count as one instance; the pixels themselves are never changed. Each is (H, W) bool.
    """
    glue = mask.astype(np.uint8)
    if bridge_gap > 0:
        glue = cv2.dilate(glue, np.ones((bridge_gap + 1, bridge_gap + 1), np.uint8)).astype(
            np.uint8
        )
    count, labels = cv2.connectedComponents(glue, connectivity=8)
    return [part for label in range(1, count) if (part := mask & (labels == label)).any()]


def instances(
    mask: Mask, merge: bool = False, min_area: int = 0, bridge_gap: int = 0
) -> tuple[list[Rle], int]:
    """A defect mask as instances, and how many specks were left out.

    `merge` makes one instance of the whole image; otherwise connected components. Specks of fewer
    than `min_area` pixels are left out; the default keeps everything. Only the mask's bounding
    region is searched, so a small defect on a large image is cheap.
    """
    if not mask.any():
        return [], 0
    if merge:
        parts = [mask]
    else:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        region = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        parts = []
        for part in components(mask[region], bridge_gap):
            full = np.zeros_like(mask)
            full[region] = part
            parts.append(full)
    kept = [part for part in parts if part.sum() >= min_area]
    return [encode(part) for part in kept], len(parts) - len(kept)


def boundary(mask: Mask, width_ratio: float = 0.02) -> Mask:
    """The pixels of a mask within `width_ratio` of the image diagonal from its contour.

    Boundary IoU's region (Cheng et al., CVPR 2021, section 4): the mask less its erosion; the
    image border counts as a contour.
    """
    height, width = mask.shape
    steps = max(1, round(width_ratio * float(np.hypot(height, width))))
    padded = np.pad(mask.astype(np.uint8), 1)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)
    return np.asarray(mask & ~eroded[1:-1, 1:-1].astype(bool))


def boundary_iou(first: Rle, second: Rle, width_ratio: float = 0.02) -> float:
    """Boundary IoU of two masks of one image; two empty masks agree perfectly (1.0)."""
    one, two = (boundary(decode(rle), width_ratio) for rle in (first, second))
    union = int((one | two).sum())
    return float((one & two).sum() / union) if union else 1.0
