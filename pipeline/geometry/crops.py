"""Square looks at an image: the part around a box, brought to a network's side, turned, and back.

Coordinates are of pixel edges: the window (0, 0, 8) holds the first eight pixels of a row.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.boxes import Boxes, as_boxes

DIHEDRAL_COUNT = 8  # four quarter turns, and the same of the mirrored picture
_SMALLEST = 32.0  # pixels; below this a window shows little but interpolation
_OUTSIDE = (124, 116, 104)  # the mean colour of SAM's training images, 0 once normalised


class Crop(NamedTuple):
    """A square of `side` image pixels whose top left corner is at (x, y); it may reach outside."""

    x: float
    y: float
    side: float


def square_crop(box: NDArray[np.float32], zoom: float, smallest: float = _SMALLEST) -> Crop:
    """The window about a box's centre, `zoom` times as wide as the box's longer side."""
    x0, y0, x1, y1 = (float(value) for value in box)
    side = max(max(x1 - x0, y1 - y0) * zoom, smallest)
    return Crop((x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side)


def cut(image: NDArray[np.uint8], window: Crop, side: int) -> NDArray[np.uint8]:
    """What a window shows of an image (H, W, 3), at (side, side, 3); grey outside the image."""
    scale = side / window.side
    shown = image
    if scale < 0.5:  # sampling alone would skip pixels
        shown = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 / scale), np.uint8)
    found = cv2.warpAffine(
        shown,
        _matrix(window, scale),
        (side, side),
        flags=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_OUTSIDE,
    )
    return np.asarray(found, np.uint8)


def cut_mask(mask: NDArray[np.bool_], window: Crop, side: int) -> NDArray[np.float32]:
    """How much of each of a window's (side, side) pixels a mask (H, W) covers, in [0, 1]."""
    fine = side * max(1, min(4, round(window.side / side)))  # several samples a pixel if shrunk
    flags = cv2.INTER_LINEAR
    shown = cv2.warpAffine(
        mask.astype(np.float32), _matrix(window, fine / window.side), (fine, fine), flags=flags
    )
    return np.asarray(cv2.resize(shown, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def uncrop(
    values: NDArray[np.float32], window: Crop, size: tuple[int, int]
) -> tuple[int, int, NDArray[np.float32]]:
    """A window's values (side, side) at the image's scale: (x, y, values (h, w)), where (x, y) is
    the image pixel of the first value. Only image pixels inside the window are returned.
    """
    height, width = size
    x0, y0 = max(0, int(np.floor(window.x))), max(0, int(np.floor(window.y)))
    x1 = min(width, int(np.ceil(window.x + window.side)))
    y1 = min(height, int(np.ceil(window.y + window.side)))
    if x1 <= x0 or y1 <= y0:
        return 0, 0, np.zeros((0, 0), np.float32)
    inverse = _matrix(Crop(window.x - x0, window.y - y0, window.side), len(values) / window.side)
    found = cv2.warpAffine(
        values,
        inverse,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return x0, y0, np.asarray(found, np.float32)


def into(boxes: Boxes, window: Crop, side: int) -> Boxes:
    """Boxes (N, 4) of the image in a window's (side, side) pixels."""
    corner = np.array([window.x, window.y, window.x, window.y], np.float32)
    return np.asarray((boxes - corner) * np.float32(side / window.side), np.float32)


def dihedral(pixels: NDArray[np.generic], turn: int) -> NDArray[np.generic]:
    """Pixels (S, S, ...) in one of `DIHEDRAL_COUNT` positions: `turn % 4` quarter turns
    against the clock, of the mirrored picture from 4 on."""
    shown = pixels[:, ::-1] if turn >= 4 else pixels
    return np.ascontiguousarray(np.rot90(shown, turn % 4))


def dihedral_inverse(pixels: NDArray[np.generic], turn: int) -> NDArray[np.generic]:
    """Undo `dihedral`."""
    shown = np.rot90(pixels, -(turn % 4))
    return np.ascontiguousarray(shown[:, ::-1] if turn >= 4 else shown)


def dihedral_boxes(boxes: Boxes, turn: int, side: int) -> Boxes:
    """Boxes (N, 4) on a square picture as they lie after `dihedral`."""
    x0, y0, x1, y1 = (boxes[:, column] for column in range(4))
    if turn >= 4:
        x0, x1 = side - x1, side - x0
    for _ in range(turn % 4):  # a quarter turn against the clock: (x, y) to (y, side - x)
        x0, y0, x1, y1 = y0, side - x1, y1, side - x0
    return as_boxes(np.stack([x0, y0, x1, y1], axis=1))


def _matrix(window: Crop, scale: float) -> NDArray[np.float64]:
    """Image pixel centres to window pixel centres."""
    return np.array(
        [
            [scale, 0, (0.5 - window.x) * scale - 0.5],
            [0, scale, (0.5 - window.y) * scale - 0.5],
        ]
    )
