"""Boxes as (N, 4) float32 xyxy pixels, half-open: x1 and y1 are the first pixel outside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float32]


def as_boxes(values: ArrayLike | Sequence[Sequence[float]]) -> Boxes:
    """Any nested sequence of xyxy rows as (N, 4) float32; an empty one as (0, 4)."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 4)


def xyxy_to_xywh(boxes: Boxes) -> Boxes:
    """(N, 4) xyxy to COCO's (N, 4) x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """COCO's (N, 4) x, y, width, height to (N, 4) xyxy."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_yolo(boxes: Boxes, height: int, width: int) -> NDArray[np.float64]:
    """(N, 4) xyxy pixels to YOLO's centre x, centre y, width, height in [0, 1]."""
    scale = np.array([width, height, width, height], dtype=np.float64)
    centre = (boxes[:, :2].astype(np.float64) + boxes[:, 2:]) / 2
    size = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    return np.concatenate([centre, size], axis=1) / scale


def yolo_to_xyxy(rows: NDArray[np.float64], height: int, width: int) -> Boxes:
    """(N, 4) YOLO's centre x, centre y, width, height in [0, 1] to xyxy pixels."""
    scale = np.array([width, height, width, height], dtype=np.float64)
    centre, size = rows[:, :2], rows[:, 2:]
    return as_boxes(np.concatenate([centre - size / 2, centre + size / 2], axis=1) * scale)


def clip(boxes: Boxes, height: int, width: int) -> Boxes:
    """Boxes (N, 4) clipped to the image [0, width] x [0, height]."""
    limits = np.array([width, height, width, height], dtype=np.float32)
    return np.clip(boxes, 0, limits).astype(np.float32)


def area(boxes: Boxes) -> NDArray[np.float32]:
    """(N,) areas in pixels; 0 for a box with x1 < x0 or y1 < y0."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    return np.asarray(sides[:, 0] * sides[:, 1], dtype=np.float32)


def iou(first: Boxes, second: Boxes) -> NDArray[np.float32]:
    """(N, M) intersection over union in [0, 1]; 0 where both areas are 0."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    shared = sides[..., 0] * sides[..., 1]
    union = area(first)[:, None] + area(second)[None, :] - shared
    overlap = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return np.asarray(overlap, dtype=np.float32)


def whole_pixels(box: NDArray[np.float32], height: int, width: int) -> tuple[int, int, int, int]:
    """The smallest (x0, y0, x1, y1) of whole pixels around a box, clipped to the image."""
    x0, y0 = np.floor(box[:2]).astype(int)
    x1, y1 = np.ceil(box[2:]).astype(int)
    return max(int(x0), 0), max(int(y0), 0), min(int(x1), width), min(int(y1), height)
