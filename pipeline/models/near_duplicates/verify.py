"""How much two textures agree, where they lie on each other best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from pipeline.models.near_duplicates.thumbnails import Size, Texture

_OVERLAP = 0.4  # least share of the smaller texture
_BLOCK, _NARROW_BLOCK = 32, 20  # pixels of a block's side
_REACH = 4  # pixels that a block may lie off
_LEAST_BLOCKS = 4
_RIDGE = 1e-6 * np.eye(3)  # for blocks in one row, which do not tell every map apart
_AGREE = 1.0  # pixels between a block's place and the one that all blocks together tell

Shift = tuple[int, int]
Transform = NDArray[np.complex64]


@dataclass(frozen=True)
class Fit:
    """Where two textures agree best. value: how well, about -1 to 1. shift: pixel (y, x) of the
    other lies on (y + shift[0], x + shift[1]) of the first. turned: the other is turned by half."""

    value: float
    shift: Shift
    turned: bool


class Placer:
    """Finds the place where two textures agree best, at all shifts."""

    def __init__(self, longest: int) -> None:
        """longest: pixels of the longest side of any texture."""
        side = scipy.fft.next_fast_len(int(np.ceil((2 - _OVERLAP) * longest)), real=True)
        self._offsets = np.fft.fftfreq(side, 1 / side).astype(np.int64)
        self._side = side
        self._weight = lru_cache(64)(self._weights)

    def transform(self, texture: Texture) -> Transform:
        """The spectrum of a texture, for `best`."""
        return np.asarray(scipy.fft.rfft2(texture, s=(self._side, self._side)), np.complex64)

    def best(self, one: Transform, other: Transform, sizes: tuple[Size, Size]) -> Fit:
        """The better place of two textures, the other one upright or turned by half.

        one, other: by `transform`. sizes: (height, width) of both. A small overlap counts less
        than a large one.
        """
        weight, weight_turned = self._weight(*sizes)
        upright = self._inverse(one * np.conj(other)) * weight
        turned = self._inverse(one * other) * weight_turned
        smaller = min(height * width for height, width in sizes)
        fits = self._highest(upright, smaller, None), self._highest(turned, smaller, sizes[1])
        return max(fits, key=lambda fit: fit.value)

    def _inverse(self, spectrum: Transform) -> Texture:
        return np.asarray(scipy.fft.irfft2(spectrum, s=(self._side, self._side)), np.float32)

    def _highest(self, values: Texture, smaller: int, turned: Size | None) -> Fit:
        row, column = divmod(int(values.argmax()), self._side)
        down, right = (turned[0] - 1, turned[1] - 1) if turned else (0, 0)
        shift = int(self._offsets[row - down]), int(self._offsets[column - right])
        return Fit(float(values[row, column]) / smaller**0.5, shift, turned is not None)

    def _weights(self, size: Size, other: Size) -> tuple[Texture, Texture]:
        """What the sum over an overlap counts at each shift: less for more pixels, 0 for too few.

        The second is for a turned texture. The product of two spectra is that of the turned one,
        moved by its own size: so are its weights."""
        down, right = (self._overlaps(size[axis], other[axis]) for axis in (0, 1))
        weights = np.outer(*(1 / np.sqrt(np.maximum(axis, 1)) for axis in (down, right)))
        weights[np.outer(down, right) < _OVERLAP * min(size[0] * size[1], other[0] * other[1])] = 0
        upright = np.asarray(weights, np.float32)
        return upright, np.roll(upright, (other[0] - 1, other[1] - 1), (0, 1))

    def _overlaps(self, length: int, other: int) -> NDArray[np.float32]:
        """Pixels of one axis on which two textures lie on each other, at each offset."""
        both = np.minimum(length, self._offsets + other) - np.maximum(0, self._offsets)
        return np.asarray(np.maximum(both, 0), np.float32)


def agreement(one: Texture, other: Texture, shift: Shift) -> float:
    """How much of two textures agrees, in [0, 1]: the mean correlation of their blocks, where a
    block whose place contradicts the others' counts 0.

    shift: of the other on the first, in pixels. Each block of the overlap may lie a few pixels
    off, so that a slight turn or change of scale does no harm; but all of them must follow one
    affine map.
    """
    places = _blocks(one.shape, other.shape, shift)
    if len(places) < _LEAST_BLOCKS:
        return 0.0
    padded = np.pad(other, _REACH)
    likeness, moved = np.zeros(len(places)), np.zeros((len(places), 2))
    for row, (y, x, side) in enumerate(places):
        block = one[y : y + side, x : x + side]
        top, left = y - shift[0], x - shift[1]
        window = padded[top : top + side + 2 * _REACH, left : left + side + 2 * _REACH]
        likeness[row], moved[row] = _best_place(block, window)
    centres = np.array([(y + side / 2, x + side / 2) for y, x, side in places])
    agrees = _residuals(centres, moved, likeness) <= _AGREE
    return float(np.clip(likeness * agrees, 0, 1).mean())


def _blocks(
    shape: tuple[int, ...], other: tuple[int, ...], shift: Shift
) -> Sequence[tuple[int, int, int]]:
    """Top, left and side of the blocks in the overlap, in pixels of the first texture."""
    low = [max(0, shift[axis]) for axis in (0, 1)]
    high = [min(shape[axis], shift[axis] + other[axis]) for axis in (0, 1)]
    narrow = min(high[0] - low[0], high[1] - low[1])
    side = _BLOCK if narrow >= 1.75 * _BLOCK else _NARROW_BLOCK
    step = 3 * side // 4
    rows, columns = (range(low[axis], high[axis] - side + 1, step) for axis in (0, 1))
    return [(y, x, side) for y in rows for x in columns]


def _best_place(block: Texture, window: Texture) -> tuple[float, tuple[float, float]]:
    """The best correlation of a block in a window, and its distance (y, x) from the middle."""
    if not block.any():  # OpenCV would find that it agrees with everything
        return 0.0, (0.0, 0.0)
    values = cv2.matchTemplate(window, np.ascontiguousarray(block), cv2.TM_CCOEFF_NORMED)
    best = int(values.argmax())
    y, x = divmod(best, values.shape[1])
    value = float(values.flat[best])
    return (value if np.isfinite(value) else 0.0), (y - _REACH, x - _REACH)


def _residuals(
    centres: NDArray[np.float64], moved: NDArray[np.float64], likeness: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Pixels (B,) between where each block lies and where the affine map of most blocks puts it."""
    points = np.c_[np.ones(len(centres)), (centres - centres.mean(axis=0)) / _BLOCK]
    trust = np.clip(likeness, 0.01, 1) ** 2
    apart = np.abs(moved - np.median(moved, axis=0)).max(axis=1)
    weights = trust * np.exp(-(apart**2) / 8)
    for _ in range(5):
        weighted = points * (weights + 1e-9)[:, None]
        fitted = np.linalg.solve(weighted.T @ points + _RIDGE, weighted.T @ moved)
        apart = np.abs(moved - points @ fitted).max(axis=1)
        weights = trust * np.exp(-(apart**2) / 2)
    return np.asarray(apart)
