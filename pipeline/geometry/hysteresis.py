"""Masks with soft edges: where the edge of a defect is, without tearing thin defects apart.

A mask that was resized, blurred or saved as JPEG has values between 0 and its greatest one. One
threshold at half height puts the edge where it was drawn, but a thin scratch falls below it in
places and comes apart. Canny's hysteresis keeps what is joined to a seed (Canny 1986, section
VIII), with a ratio of the two thresholds of two or three to one; benchmarks/soft_edges.py compares
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.patches import Mask

Values = NDArray[np.uint8] | NDArray[np.uint16]
_LOW_SHARE = 3  # the least value that joins two pieces is the threshold over this


@dataclass(frozen=True)
class SoftMask:
    """The pixels (H, W) of a mask with soft edges. torn: pieces that the threshold alone makes of
    defects; joined: how many defects these are."""

    pixels: Mask
    torn: int = 0
    joined: int = 0


def without_tearing(values: Values, threshold: int) -> SoftMask:
    """The pixels of `values` (H, W) above the threshold, with every defect in one piece.

    A defect is what is connected above a third of the threshold, and has a pixel above the
    threshold. One that the threshold leaves in one piece has its edge there. One that it tears is
    cut at the greatest value that keeps it whole. A threshold of 0 takes every pixel above 0.
    """
    pixels = np.asarray(values > threshold)
    low = threshold // _LOW_SHARE
    x, y, width, height = cv2.boundingRect((values > low).view(np.uint8))
    if not threshold or not width:
        return SoftMask(pixels)
    window = slice(y, y + height), slice(x, x + width)
    inner: Values = values[window]
    kept = pixels[window]
    _, defects = cv2.connectedComponents((inner > low).view(np.uint8), connectivity=8)
    count, pieces = cv2.connectedComponents(kept.view(np.uint8), connectivity=8)
    owners = np.zeros(count, dtype=np.int64)  # the defect of each piece
    owners[pieces[kept]] = defects[kept]
    numbers, sizes = np.unique(owners[1:], return_counts=True)
    torn = 0
    for number, size in zip(numbers.tolist(), sizes.tolist(), strict=True):
        if size > 1:
            torn += size
            _join(inner, kept, defects == number, low, threshold)
    return SoftMask(pixels, torn, int((sizes > 1).sum()))


def _join(values: Values, kept: Mask, defect: Mask, low: int, threshold: int) -> None:
    """Add to `kept` the pixels of one defect above the greatest value that keeps it whole."""
    x, y, width, height = cv2.boundingRect(defect.view(np.uint8))
    window = slice(y, y + height), slice(x, x + width)
    own = np.where(defect[window], values[window], 0)
    seeds = own > threshold
    low_cut, high_cut = low, threshold  # whole at the first, torn at the second
    while high_cut - low_cut > 1:
        middle = (low_cut + high_cut) // 2
        low_cut, high_cut = (
            (middle, high_cut) if len(_seeded(own > middle, seeds)[1]) == 1 else (low_cut, middle)
        )
    labels, seeded = _seeded(own > low_cut, seeds)
    kept[window] |= np.isin(labels, seeded)


def _seeded(region: Mask, seeds: Mask) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The components (h, w) of a region, and the numbers of those with a seed."""
    _, labels = cv2.connectedComponents(region.view(np.uint8), connectivity=8)
    return np.asarray(labels, np.int32), np.unique(labels[seeds]).astype(np.int32)
