"""Rectangles and ellipses that are turned, in pixels: x to the right, y down, degrees clockwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.patches import Patch, tight
from pipeline.geometry.polygons import Ring

_ALIGNED = 1e-3  # pixels: sides that differ by less are along the axes
_FLAT = 1e-9  # pixels: a side that rises less crosses no row
Reals = NDArray[np.float64]
_NOTHING = Patch(0, 0, np.zeros((0, 0), dtype=bool))


def rectangle_ring(
    corner: tuple[float, float], size: tuple[float, float], degrees: float,
    pivot: tuple[float, float],
) -> Ring:  # fmt: skip
    """The corners (4, 2) of a rectangle that is turned about a point.

    corner: the top left one before the turn. size: (width, height).
    """
    (x, y), (width, height) = corner, size
    ring = np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])
    cos, sin = _turn(degrees)
    return np.asarray((ring - pivot) @ np.array([[cos, sin], [-sin, cos]]) + pivot)


def box_of_ring(ring: Ring) -> list[float] | None:
    """x0, y0, x1, y1 of a rectangle (4, 2); None if its sides are not along the axes."""
    low, high = ring.min(axis=0), ring.max(axis=0)
    to_corner = np.minimum(ring - low, high - ring)
    if (to_corner > _ALIGNED).any():
        return None
    return [*low.tolist(), *high.tolist()]


def draw_ellipse(
    centre: tuple[float, float], radii: tuple[float, float], degrees: float,
    height: int, width: int,
) -> Patch:  # fmt: skip
    """The pixels of an image (height, width) whose centre is inside an ellipse.

    radii: along its own axes, the first of which is turned from x by `degrees`. The pixels of each
    row are between the roots of a u^2 + 2 b u v + c v^2 = 1, where (u, v) is the way from the
    centre. Raises ValueError for a radius below 0.
    """
    if min(radii) < 0:
        raise ValueError(f"an ellipse with the radii {radii[0]:g} and {radii[1]:g}")
    if min(radii) < _ALIGNED:
        return _NOTHING
    (x, y), (first, second) = centre, radii
    cos, sin = _turn(degrees)
    a = (cos / first) ** 2 + (sin / second) ** 2
    b = cos * sin * (1 / first**2 - 1 / second**2)
    reach = math.hypot(first * sin, second * cos)  # from the centre to the last row
    top, bottom = (round(min(max(row, 0), height)) for row in (y - reach - 1, y + reach + 1))
    v = np.arange(top, bottom) + 0.5 - y
    square = a - (v / (first * second)) ** 2  # of half the length, times a: a c - b^2 = 1 / (r s)^2
    rows = np.flatnonzero(square >= 0)
    half = np.sqrt(square[rows]) / a
    middle = x - b * v[rows] / a
    return _between(middle - half, middle + half, top + rows, width)


def draw_convex(ring: Ring, height: int, width: int) -> Patch:
    """The pixels of an image (height, width) whose centre is inside a convex polygon (P, 2), as
    `masks.from_box` fills a box."""
    low, high = np.clip([ring[:, 1].min() - 1, ring[:, 1].max() + 1], 0, height).round()
    rows = np.arange(int(low), int(high))
    lefts, rights = np.full(len(rows), np.inf), np.full(len(rows), -np.inf)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if abs(y1 - y0) > _FLAT:
            share = (rows + 0.5 - y0) / (y1 - y0)
            crossing = np.where((share >= 0) & (share <= 1), x0 + (x1 - x0) * share, np.nan)
            lefts, rights = np.fmin(lefts, crossing), np.fmax(rights, crossing)
    crossed = lefts <= rights
    return _between(lefts[crossed], rights[crossed], rows[crossed], width)


def _between(lefts: Reals, rights: Reals, rows: NDArray[np.integer], width: int) -> Patch:
    """The pixels whose centres are between two places in x, the second outside, in consecutive
    rows."""
    starts = np.clip(np.ceil(lefts - 0.5), 0, width)
    ends = np.clip(np.ceil(rights - 0.5), 0, width)
    if not (starts < ends).any():
        return _NOTHING
    first, last = int(starts.min()), int(ends.max())
    columns = np.arange(first, last)
    pixels = (columns >= starts[:, None]) & (columns < ends[:, None])
    return tight(pixels, first, int(rows[0]))


def _turn(degrees: float) -> Sequence[float]:
    """Cosine and sine; exact for quarters of a turn."""
    quarters, rest = divmod(degrees, 90)
    if rest == 0:
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarters) % 4]
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
