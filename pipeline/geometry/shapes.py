"""Rectangles and ellipses that are turned, in pixels: x to the right, y down, degrees clockwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pipeline.geometry.patches import Patch, tight
from pipeline.geometry.polygons import Ring

_ALIGNED = 1e-3  # pixels: sides that differ by less are along the axes
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
    starts = np.clip(np.ceil(middle - half - 0.5), 0, width)
    ends = np.clip(np.floor(middle + half - 0.5) + 1, 0, width)
    if not (starts < ends).any():
        return _NOTHING
    left, right = int(starts.min()), int(ends.max())
    columns = np.arange(left, right)
    pixels = (columns >= starts[:, None]) & (columns < ends[:, None])
    return tight(pixels, left, top + int(rows[0]))


def _turn(degrees: float) -> Sequence[float]:
    """Cosine and sine; exact for quarters of a turn."""
    quarters, rest = divmod(degrees, 90)
    if rest == 0:
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarters) % 4]
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
