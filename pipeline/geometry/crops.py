"""Square crops of an image: around a box, resized to a network's side, rotated, and back.

Coordinates are of pixel edges: the crop (0, 0, 8) holds the first eight pixels of a row.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.boxes import Boxes, as_boxes

DIHEDRAL_COUNT = 8  # four quarter turns, and the same of the mirrored picture
_SMALLEST = 32.0  # pixels; below this a crop shows little but interpolation
_OUTSIDE = (124, 116, 104)  # the mean colour of SAM's training images, 0 once normalised


class Crop(NamedTuple):
    """A square of `side` image pixels whose top left corner is at (x, y); it may reach outside."""

    x: float
    y: float
    side: float


def square_crop(box: NDArray[np.float32], scale: float, smallest: float = _SMALLEST) -> Crop:
    """The crop about a box's centre, `scale` times as wide as the box's longer side."""
    x0, y0, x1, y1 = (float(value) for value in box)
    side = max(max(x1 - x0, y1 - y0) * scale, smallest)
    return Crop((x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side)


def crop_image(image: NDArray[np.uint8], crop: Crop, side: int) -> NDArray[np.uint8]:
    """The crop of an image (H, W, 3) resized to (side, side, 3); grey outside the image."""
    scale = side / crop.side
    smooth = image
    if scale < 0.5:  # sampling alone would skip pixels
        smooth = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 / scale), np.uint8)
    pixels = cv2.warpAffine(
        smooth,
        _matrix(crop, scale),
        (side, side),
        flags=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_OUTSIDE,
    )
    return np.asarray(pixels, np.uint8)


def crop_mask(mask: NDArray[np.bool_], crop: Crop, side: int) -> NDArray[np.float32]:
    """The share of each of a crop's (side, side) pixels that a mask (H, W) covers, in [0, 1]."""
    fine = side * max(1, min(4, round(crop.side / side)))  # several samples a pixel if shrunk
    flags = cv2.INTER_LINEAR
    covered = cv2.warpAffine(
        mask.astype(np.float32), _matrix(crop, fine / crop.side), (fine, fine), flags=flags
    )
    return np.asarray(cv2.resize(covered, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def uncrop(
    values: NDArray[np.float32], crop: Crop, size: tuple[int, int]
) -> tuple[int, int, NDArray[np.float32]]:
    """A crop's values (side, side) at the image's scale: (x, y, values (h, w)), where (x, y) is the
    image pixel of the first value. Only image pixels inside the crop are returned.
    """
    height, width = size
    x0, y0 = max(0, int(np.floor(crop.x))), max(0, int(np.floor(crop.y)))
    x1 = min(width, int(np.ceil(crop.x + crop.side)))
    y1 = min(height, int(np.ceil(crop.y + crop.side)))
    if x1 <= x0 or y1 <= y0:
        return 0, 0, np.zeros((0, 0), np.float32)
    inverse = _matrix(Crop(crop.x - x0, crop.y - y0, crop.side), len(values) / crop.side)
    scaled = cv2.warpAffine(
        values,
        inverse,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return x0, y0, np.asarray(scaled, np.float32)


def to_crop(boxes: Boxes, crop: Crop, side: int) -> Boxes:
    """Boxes (N, 4) of the image in a crop's (side, side) pixels."""
    corner = np.array([crop.x, crop.y, crop.x, crop.y], np.float32)
    return np.asarray((boxes - corner) * np.float32(side / crop.side), np.float32)


def dihedral(pixels: NDArray[np.generic], position: int) -> NDArray[np.generic]:
    """Pixels (S, S, ...) in one of `DIHEDRAL_COUNT` positions: `position % 4` quarter turns
    against the clock, of the mirrored picture from 4 on."""
    mirrored = pixels[:, ::-1] if position >= 4 else pixels
    return np.ascontiguousarray(np.rot90(mirrored, position % 4))


def dihedral_inverse(pixels: NDArray[np.generic], position: int) -> NDArray[np.generic]:
    """Undo `dihedral`."""
    upright = np.rot90(pixels, -(position % 4))
    return np.ascontiguousarray(upright[:, ::-1] if position >= 4 else upright)


def dihedral_boxes(boxes: Boxes, position: int, side: int) -> Boxes:
    """Boxes (N, 4) on a square picture as they lie after `dihedral`."""
    x0, y0, x1, y1 = (boxes[:, column] for column in range(4))
    if position >= 4:
        x0, x1 = side - x1, side - x0
    for _ in range(position % 4):  # a quarter turn against the clock: (x, y) to (y, side - x)
        x0, y0, x1, y1 = y0, side - x1, y1, side - x0
    return as_boxes(np.stack([x0, y0, x1, y1], axis=1))


def _matrix(crop: Crop, scale: float) -> NDArray[np.float64]:
    """Image pixel centres to crop pixel centres."""
    return np.array(
        [
            [scale, 0, (0.5 - crop.x) * scale - 0.5],
            [0, scale, (0.5 - crop.y) * scale - 0.5],
        ]
    )
