"""Polygons are derived from masks; each reader has its own idea of where a pixel lies.

YOLO segmentation is drawn with `cv2.fillPoly`, whose vertices are pixel centres. A label stands at
pixel centre + 0.5 before it is divided by the image size, because ultralytics truncates to whole
pixels when it draws.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.masks import Mask

Ring = NDArray[np.float64]


def pixel_centre_ring(mask: Mask) -> Ring:
    """One closed ring (P, 2) of pixel-centre xy that `fillPoly` fills to the mask, holes filled in.

    A mask of several parts becomes one ring by walking a seam of zero width to the nearest point of
    each part, there and back. At least three vertices; an empty mask has (0, 2).
    """
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rings = [contour[:, 0, :].astype(np.float64) for contour in found]
    if not rings:
        return np.zeros((0, 2))
    rings.sort(key=len, reverse=True)
    merged = rings[0]
    for ring in rings[1:]:
        merged = _join(merged, ring)
    while len(merged) < 3:  # one pixel or a straight line: readers want three vertices
        merged = np.concatenate([merged, merged[:1]])
    return merged


def _join(base: Ring, ring: Ring) -> Ring:
    distances = ((base[:, None, :] - ring[None, :, :]) ** 2).sum(axis=2)
    at, start = np.unravel_index(int(distances.argmin()), distances.shape)
    loop = np.concatenate([ring[start:], ring[: start + 1]])
    return np.concatenate([base[: at + 1], loop, base[at:]])


def to_yolo(ring: Ring, height: int, width: int) -> Ring:
    """Pixel-centre xy to YOLO's normalised xy in [0, 1]."""
    return (ring + 0.5) / np.array([width, height], dtype=np.float64)


def draw_yolo(ring: Ring, height: int, width: int) -> Mask:
    """The pixels that ultralytics trains on: normalised xy, truncated, drawn by `fillPoly`."""
    canvas = np.zeros((height, width), dtype=np.uint8)
    if len(ring):
        points = (ring * np.array([width, height])).astype(np.int32)
        cv2.fillPoly(canvas, [points], color=1)
    return canvas.astype(bool)
