"""The textures of a drawn surface: knitted cloth, slopes under a light, and noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


def bricks(u: Plane, y: Plane, wide: float, tall: float, generator: np.random.Generator) -> Plane:
    """Knitted cloth: cells around random points, from 0 at their edge to 1 inside. Half of the
    cells lie on their side.

    Worley's cellular noise (SIGGRAPH 1996) with a box-shaped distance.
    """
    rows, columns = int(1.4 / tall) + 4, int(2.4 / wide) + 4
    jitter = generator.uniform(-0.22, 0.22, (2, rows, columns)).astype(np.float32)
    lying = generator.uniform(size=(rows, columns)) < 0.5
    stretch_u = np.where(lying, 0.66, 1.36).astype(np.float32)
    stretch_y = np.where(lying, 1.36, 0.66).astype(np.float32)
    cell_u, cell_y = (u + 1.0) / wide + 2, (y + 0.2) / tall + 2
    base_u, base_y = np.floor(cell_u).astype(np.int32), np.floor(cell_y).astype(np.int32)
    first = np.full_like(u, 9.0)
    second = np.full_like(u, 9.0)
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            row = (base_y + down).clip(0, rows - 1)
            column = (base_u + across).clip(0, columns - 1)
            flat = row * columns + column
            gap_u = np.abs(cell_u - (column + 0.5 + jitter[0].take(flat))) * stretch_u.take(flat)
            gap_y = np.abs(cell_y - (row + 0.5 + jitter[1].take(flat))) * stretch_y.take(flat)
            away = np.maximum(gap_u, gap_y)
            second = np.minimum(second, np.maximum(first, away))
            first = np.minimum(first, away)
    return np.asarray(np.sqrt(np.clip((second - first) / 0.45, 0, 1)), dtype=np.float32)


def slope(height: Plane, light: tuple[float, float]) -> Plane:
    """The slope of the surface towards the light, about [-1, 1]."""
    across = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    down = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    lean = light[0] * across + light[1] * down
    return np.asarray(lean / np.sqrt(1 + across**2 + down**2), dtype=np.float32)


def smooth_noise(generator: np.random.Generator, side: int, cells: int) -> Plane:
    """(side, side) in [-1, 1] about, smooth over `cells` by `cells` random values."""
    coarse = generator.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC))


def grain(generator: np.random.Generator, side: int) -> Plane:
    """(side, side) of independent normal values."""
    return generator.standard_normal((side, side), dtype=np.float32)
