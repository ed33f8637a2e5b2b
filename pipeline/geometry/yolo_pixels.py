"""What the numbers of YOLO polygons mean in pixels: YOLO does not say, and its writers differ.

This program and every writer that takes `cv2.findContours` (ultralytics, supervision) write whole
pixels, which are centres: `fillPoly` gives their masks back. ultralytics' predictions are whole
pixels of the network's input. People and other tools write fractions, which are places between the
edges of pixels: a polygon then holds the pixels whose centres are inside, and `fillPoly` would add
a row and a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.patches import Patch, tight
from pipeline.geometry.polygons import Ring, draw_centres, draw_coco

_SIDES = range(160, 1921, 32)  # of ultralytics' inputs
_ROUND = 1e-6
_LEAST_FINE = 6
_MANY = 16  # different numbers, of which not all are even by chance
_FLOAT = 1e-7  # of 32 bits, near 1
_LEAST_DECIMALS = 5  # fewer are zeros at the end that are not written
_MOST_DECIMALS = 9


@dataclass(frozen=True)
class Grid:
    """A raster that the points of polygons are on: its width and height in pixels, and where in a
    pixel they are: 0 for its corner, 0.5 for its middle."""

    width: int
    height: int
    offset: float = 0.0


def rounding(texts: Iterable[str]) -> NDArray[np.float64]:
    """How far each number (N,) may be from what was meant, by the decimals that are written."""
    decimals = [min(max(len(t.partition(".")[2]), _LEAST_DECIMALS), _MOST_DECIMALS) for t in texts]
    return 0.5 * 10.0 ** -np.array(decimals, dtype=np.float64) + _FLOAT


def common_grid(
    rings: Sequence[Ring], errors: Sequence[NDArray[np.float64]], height: int, width: int
) -> Grid | None:
    """The raster that all points of some polygons are on; None for points between pixels.

    rings: normalised xy (P, 2) each. errors: (P, 2) each, see `rounding`. height, width: of the
    image.
    """
    if not rings:
        return None
    points, most = np.concatenate(rings), np.concatenate(errors)
    middles, corners = Grid(width, height, 0.5), Grid(width, height)
    if _is_on(points, most, middles):
        return middles
    inputs = [grid for grid in _inputs(height, width) if _is_on(points, most, grid)]
    if not _is_on(points, most, corners):
        return inputs[0] if inputs and _is_fine(points) else None
    if inputs and inputs[0].width < width and len(np.unique(points)) >= _MANY:
        return inputs[0]  # all points of a photo of twice its size are even
    return corners


def _inputs(height: int, width: int) -> Iterator[Grid]:
    """The image as ultralytics scales it to the inputs of its networks, the smallest first."""
    for side in _SIDES:
        gain = side / max(height, width)
        yield Grid(max(round(width * gain), 1), max(round(height * gain), 1))


def _is_fine(points: Ring) -> bool:
    """Whether some numbers have more than three decimals: round ones are on many rasters."""
    thousands = points * 1000
    return int((np.abs(thousands - np.rint(thousands)) > _ROUND).sum()) >= _LEAST_FINE


def _is_on(points: Ring, errors: NDArray[np.float64], grid: Grid) -> bool:
    sides = np.array([grid.width, grid.height], dtype=np.float64)
    places = points * sides - grid.offset
    whole = np.rint(places)
    inside = (whole >= 0) & (whole < sides)  # what is at the edge of the image is no pixel
    return bool((inside & (np.abs(places - whole) <= errors * sides)).all())


def draw_on_grid(ring: Ring, grid: Grid, height: int, width: int) -> Patch:
    """The pixels of an image that a polygon on a raster fills: those of the raster by `fillPoly`,
    each pixel of the image from the one that its centre is in."""
    sides = np.array([grid.width, grid.height], dtype=np.float64)
    points = np.rint(ring * sides - grid.offset).astype(np.int32)
    patch = draw_centres(points, grid.height, grid.width)
    if (grid.width, grid.height) == (width, height) or not patch.area:
        return patch
    columns, x = _inside(patch.x, patch.pixels.shape[1], grid.width, width)
    rows, y = _inside(patch.y, patch.pixels.shape[0], grid.height, height)
    return tight(patch.pixels[np.ix_(rows, columns)], x, y)


def _inside(start: int, count: int, grid: int, side: int) -> tuple[NDArray[np.int64], int]:
    """For the pixels of an image whose centres are in `count` pixels of a raster from `start` on,
    the number of that pixel; and the first of the pixels."""
    at = ((np.arange(side) + 0.5) * grid / side).astype(np.int64) - start
    found = np.flatnonzero((at >= 0) & (at < count))
    return at[found], int(found[0]) if len(found) else 0


def draw_between(ring: Ring, height: int, width: int) -> Patch:
    """The pixels of an image whose centres are inside a polygon (P, 2), xy in pixels. One thinner
    than a pixel, which would fall apart or vanish, is drawn by `fillPoly`."""
    if _thickness(ring) >= 1 and (patch := draw_coco([ring], height, width)).area:
        return patch
    return draw_centres(np.floor(ring).astype(np.int32), height, width)


def _thickness(ring: Ring) -> float:
    """Mean width of a polygon: that of a long rectangle of the same area and outline."""
    following = np.roll(ring, -1, axis=0)
    outline = np.hypot(*(following - ring).T).sum()
    doubled = ring[:, 0] @ following[:, 1] - ring[:, 1] @ following[:, 0]
    return float(abs(doubled) / outline) if outline else 0.0
