"""Masks that were saved as JPEG: what their values were before.

JPEG changes values in blocks of 8 x 8 pixels that an edge crosses: background beside a defect rings
by 0.15 of the step at quality 75, and by 0.3 at 30. Values are counted over all masks of a set, so
that black masks and thin defects are cut where the others are.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.uint8] | NDArray[np.uint16]
Counts = NDArray[np.int64]  # of each value, (256,)
_LEVELS = 256
_FLAT = 8  # difference of the pixels around one inside a region
_APART = 24  # values of a label map that are nearer may be one value
_LEAST_SHARE = 0.01  # of the flat pixels but background, for a value of a label map
_REACH = 9  # pixels: a block, and one more
_RINGING = 0.25  # of the step between the values around a pixel: how far it may be outside them
_MOST_STRANGE = 3  # pixels of a mask that fit no value around them


def counted(values: Values) -> Counts:
    """How many pixels (H, W) have each value."""
    return np.bincount(np.minimum(values, _LEVELS - 1).ravel(), minlength=_LEVELS).astype(np.int64)


def flat_counted(values: Values) -> Counts:
    """How many pixels inside regions have each value: those like all pixels around them."""
    levels = np.minimum(values, _LEVELS - 1).astype(np.uint8)
    return counted(levels[_is_flat(levels)])


def _is_flat(levels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    around = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(levels, around) - cv2.erode(levels, around) <= _FLAT)


def threshold_between(counts: Counts) -> int:
    """The value half-way between background and defects: between the medians of the two classes
    that differ most (Otsu, "A threshold selection method from gray-level histograms", IEEE
    Transactions on Systems, Man, and Cybernetics 1979). 0 for masks of one value."""
    levels = np.arange(len(counts))
    below, total = np.cumsum(counts), int(counts.sum())
    sums = np.cumsum(counts * levels)
    above = total - below
    if not ((below > 0) & (above > 0)).any():
        return 0
    with np.errstate(divide="ignore", invalid="ignore"):
        step = sums / below - (sums[-1] - sums) / above
    variance = np.where((below > 0) & (above > 0), below * above * step**2, -1.0)
    cut = int(variance.argmax())
    return (_median(counts[: cut + 1]) + cut + 1 + _median(counts[cut + 1 :])) // 2


def _median(counts: Counts) -> int:
    return int(np.searchsorted(np.cumsum(counts), (int(counts.sum()) + 1) // 2))


def modes(counts: Counts, least_share: float = _LEAST_SHARE) -> tuple[int, ...]:
    """The values of a label map but 0, sorted, from the pixels inside its regions: each is the
    commonest of its neighbours. least_share: of the flat pixels but background. Raises ValueError
    for values that cannot be distinguished."""
    highest = int(np.flatnonzero(counts).max(initial=0))
    if 1 < highest < _APART // 2:
        raise ValueError(f"the values 0 to {highest} are too near to each other")
    left = counts.copy()
    left[: _APART // 2] = 0  # background
    least = max(int(left.sum() * least_share), 1)
    found = [0]
    while left.sum() >= least:
        value = int(left.argmax())
        low, high = max(value - _APART // 2, 0), value + _APART // 2 + 1
        if left[low:high].sum() >= least:
            near = next((other for other in found if abs(other - value) < _APART), None)
            if near is not None:
                low_one, high_one = sorted((near, value))
                raise ValueError(f"the values {low_one} and {high_one} are too near to each other")
            found.append(value)
        left[low:high] = 0
    return tuple(sorted(found)[1:])


def snapped(values: Values, known: Sequence[int]) -> NDArray[np.int32]:
    """The values (H, W) of a label map before it was saved as JPEG. known: its values, with 0.

    A pixel is the nearest of those values that a region at most a block away has: beside a region
    of 255 an edge of 128 is no rim of another category. Raises ValueError for a mask with pixels
    that fit no region near them, such as those of a line too thin to have an inside.
    """
    levels = np.minimum(values, _LEVELS - 1).astype(np.int16)
    flat = _is_flat(levels.astype(np.uint8))
    names = np.array(sorted(known), np.int16)
    distance = np.abs(levels[None] - names[:, None, None])
    nearest = distance.argmin(axis=0)
    inside = flat & (distance.min(axis=0) <= _APART // 2)
    around = np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8)
    there = np.stack([
        cv2.dilate((inside & (nearest == number)).view(np.uint8), around) > 0
        for number in range(len(names))
    ])  # fmt: skip
    _refuse_strange(levels, names, there)
    chosen = np.where(there, distance, _LEVELS).argmin(axis=0)
    return np.asarray(names[chosen], np.int32)


def _refuse_strange(
    levels: NDArray[np.int16], names: NDArray[np.int16], there: NDArray[np.bool_]
) -> None:
    """Raise ValueError for pixels that are not between the values of the regions near them."""
    by_value = names[:, None, None]
    low = np.where(there, by_value, _LEVELS).min(axis=0)
    high = np.where(there, by_value, -_LEVELS).max(axis=0)
    ringing = np.maximum(_RINGING * (high - low), _APART)
    strange = (levels < low - ringing) | (levels > high + ringing)
    if (count := int(strange.sum())) > _MOST_STRANGE:
        y, x = np.argwhere(strange)[0].tolist()
        raise ValueError(
            f"{count} pixels fit no value near them, such as {levels[y, x]} at ({x}, {y})"
        )
