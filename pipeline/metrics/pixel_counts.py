"""Pixels of heat maps counted by value, in bins that are narrow where values are dense.

A thousand full-size maps need the memory of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]
Pair = tuple[NDArray[np.floating[Any]], NDArray[np.bool_] | None]  # a heat map and its mask
_COARSE, _FINE = 1 << 14, 1 << 19  # bins
_BUCKETS = 1024  # bins of each image in the bootstrap
_SAMPLED = 1 << 21  # pixels that show where values are dense
_LEAST = 16  # fine bins to a coarse one
_FINER = 64  # defective pixels are few: more of them are sampled
_CHUNK = 1 << 22  # indices counted at once


class Counts(NamedTuple):
    """Weights by bin, from the highest value to the lowest: defective pixels, good pixels, and
    shares of defect regions."""

    positive: Curve
    negative: Curve
    region: Curve


class ValueBins:
    """Values to bins, the highest first; bins are narrow where values are dense."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        lows, highs, pixels = [], [], 0
        for heatmap, mask in pairs:
            if mask is not None and mask.shape != heatmap.shape:
                raise ValueError(f"a heat map of {heatmap.shape} for a mask of {mask.shape}")
            lows.append(float(heatmap.min()))
            highs.append(float(heatmap.max()))
            pixels += heatmap.size
        self.high, low = max(highs, default=0.0), min(lows, default=0.0)
        if not np.isfinite([self.high, low]).all():
            raise ValueError("a heat map holds a value that is not finite")
        self._coarse = (_COARSE - 1) / (self.high - low) if self.high > low else 0.0
        counts, defective = np.zeros((2, _COARSE), np.int64)
        step = max(1, pixels // _SAMPLED)
        for heatmap, mask in pairs:
            at = self._place(heatmap.ravel()[::step]).astype(np.int64)
            counts += np.bincount(at, minlength=_COARSE)
            if mask is not None:
                at = self._place(heatmap[mask][:: max(1, step // _FINER)]).astype(np.int64)
                defective += np.bincount(at, minlength=_COARSE)
        share = _shares(counts)
        least = np.where(counts > 0, _FINE // max(int(np.count_nonzero(counts)), 1), _LEAST)
        self._width = least + np.floor(share * _FINE)
        self._start = np.concatenate([[0], np.cumsum(self._width)[:-1]])
        self.bins = int(self._width.sum())
        self.bucket = self._buckets((share + _shares(defective) + _shares(counts > 0)) / 3)

    def _buckets(self, share: NDArray[np.float64]) -> NDArray[np.int16]:
        """Each bin's bucket, where a coarse bin takes its share of them. A map that is 0 nearly
        everywhere would leave none for its defects if pixels alone were counted."""
        width = self._width.astype(int)
        inside = np.arange(self.bins) - np.repeat(self._start, width)
        part = np.repeat(share / self._width, width) * inside * _BUCKETS
        first = np.repeat((np.cumsum(share) - share) * _BUCKETS, width)
        buckets: NDArray[np.int16] = np.minimum(first + part, _BUCKETS - 1).astype(np.int16)
        return buckets

    def _place(self, values: NDArray[Any]) -> NDArray[np.float64]:
        return (self.high - values.astype(np.float64)) * self._coarse

    def bin(self, heatmap: NDArray[Any]) -> NDArray[np.int32]:
        """Each value's bin, as one row."""
        place = self._place(heatmap.ravel())
        coarse = place.astype(np.int32)
        place -= coarse
        place *= self._width[coarse]
        place += self._start[coarse]
        return place.astype(np.int32)

    def value(self, index: int) -> float:
        """The lowest value of a bin."""
        coarse = int(np.searchsorted(self._start, index, side="right")) - 1
        inside = (index + 1 - self._start[coarse]) / self._width[coarse]
        return self.high - float(coarse + inside) / self._coarse if self._coarse else self.high


def _shares(counts: NDArray[np.integer[Any] | np.bool_]) -> NDArray[np.float64]:
    """Counts as shares of their sum; all 0 for none."""
    return counts / max(int(counts.sum()), 1)


def count_pixels(pairs: Iterable[Pair], scale: ValueBins) -> tuple[Counts, Counts]:
    """Counts by bin (K,) of all images; and by bucket (N, _BUCKETS) of each image."""
    positive, negative, region = (np.zeros(scale.bins) for _ in range(3))
    by_image: list[list[NDArray[np.float32]]] = [[], [], []]
    waiting: list[NDArray[np.int32]] = []
    for heatmap, mask in pairs:
        at = scale.bin(heatmap)
        inside, weights = _regions(mask)
        if len(inside):
            defective = at[inside]
            np.add.at(positive, defective, 1)
            np.add.at(region, defective, weights)
        else:
            defective = at[:0]
        buckets = scale.bucket[defective]
        by_image[0].append(np.bincount(buckets, minlength=_BUCKETS).astype(np.float32))
        by_image[2].append(np.bincount(buckets, weights, _BUCKETS).astype(np.float32))
        everything = np.bincount(scale.bucket[at], minlength=_BUCKETS).astype(np.float32)
        by_image[1].append(everything - by_image[0][-1])
        waiting.append(at)
        if sum(len(part) for part in waiting) > _CHUNK:
            negative += np.bincount(np.concatenate(waiting), minlength=scale.bins)
            waiting = []
    if waiting:
        negative += np.bincount(np.concatenate(waiting), minlength=scale.bins)
    empty = np.zeros((0, _BUCKETS))
    rows = [np.stack(part).astype(np.float64) if part else empty for part in by_image]
    return Counts(positive, negative - positive, region), Counts(*rows)


def _regions(mask: NDArray[np.bool_] | None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Flat indices of the defective pixels, and for each the inverse of the area of its 8-connected
    region."""
    if mask is None or not mask.any():
        return np.zeros(0, np.int64), np.zeros(0)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    inside = np.flatnonzero(mask)
    return inside, 1.0 / stats[labels.ravel()[inside], cv2.CC_STAT_AREA]
