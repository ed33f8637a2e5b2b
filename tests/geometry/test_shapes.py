from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry.masks import decode, from_box
from pipeline.geometry.patches import paste
from pipeline.geometry.shapes import box_of_ring, draw_convex, draw_ellipse, rectangle_ring

sides = st.integers(1, 40)
places = st.floats(-20, 60)


@given(places, places, st.floats(0.01, 40), st.floats(0.01, 40), st.floats(-400, 400), sides, sides)
def test_an_ellipse_has_the_pixels_whose_centre_is_inside(
    x: float, y: float, first: float, second: float, degrees: float, height: int, width: int
) -> None:
    drawn = paste(draw_ellipse((x, y), (first, second), degrees, height, width), height, width)
    column, row = np.meshgrid(np.arange(width) + 0.5 - x, np.arange(height) + 0.5 - y)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    ratio = ((column * cos + row * sin) / first) ** 2 + ((row * cos - column * sin) / second) ** 2
    unclear = np.abs(ratio - 1) < 1e-6
    assert (drawn == (ratio <= 1))[~unclear].all()


@pytest.mark.parametrize("radii", [(0, 5), (5, 0), (1e-9, 1e-9), (1e-300, 1e300)])
def test_a_flat_ellipse_has_no_pixel(radii: tuple[float, float]) -> None:
    assert draw_ellipse((5, 5), radii, 30, 10, 10).area == 0


def test_a_negative_radius_is_refused() -> None:
    with pytest.raises(ValueError, match="radii -1 and 2"):
        draw_ellipse((5, 5), (-1, 2), 0, 10, 10)


def test_a_huge_ellipse_fills_the_image() -> None:
    assert draw_ellipse((5, 5), (1e9, 1e10), 30, 10, 12).area == 120


@pytest.mark.parametrize(
    ("degrees", "box"),
    [
        (0, [10, 20, 40, 30]),
        (90, [0, 20, 10, 50]),  # about (10, 20): x grows down, y grows to the left
        (-90, [10, -10, 20, 20]),
        (180, [-20, 10, 10, 20]),
        (720, [10, 20, 40, 30]),
        (45, None),
        (0.5, None),
    ],
)
def test_a_rectangle_turned_by_quarters_is_a_box(degrees: float, box: list[float] | None) -> None:
    assert box_of_ring(rectangle_ring((10, 20), (30, 10), degrees, (10, 20))) == box


@given(st.floats(-180, 180), st.floats(1, 30), st.floats(1, 30), places, places, sides, sides)
def test_a_turned_rectangle_has_the_pixels_whose_centre_is_inside(
    degrees: float, wide: float, high: float, x: float, y: float, height: int, width: int
) -> None:
    """A centre is inside if it is on the right of each side."""
    ring = rectangle_ring((x, y), (wide, high), degrees, (x, y))
    drawn = paste(draw_convex(ring, height, width), height, width)
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    ways = [
        (x1 - x0) * (row - y0) - (y1 - y0) * (column - x0)
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True)
    ]
    inside, unclear = np.min(ways, axis=0) >= 0, np.min(np.abs(ways), axis=0) < 1e-6
    assert (drawn == inside)[~unclear].all()


@given(st.floats(-180, 180), st.floats(1, 50), st.floats(1, 50))
def test_corners_are_those_of_opencv(degrees: float, width: float, height: float) -> None:
    """cv2.boxPoints starts at another corner."""
    ring = rectangle_ring((7, 9), (width, height), degrees, (7 + width / 2, 9 + height / 2))
    corners = cv2.boxPoints(((7 + width / 2, 9 + height / 2), (width, height), degrees))
    distance = np.linalg.norm(ring[:, None] - corners[None], axis=2).min(axis=1)
    assert distance.max() < 1e-3


@given(places, places, places, places, sides, sides)
def test_a_filled_box_has_the_pixels_whose_centre_is_inside(
    x0: float, y0: float, x1: float, y1: float, height: int, width: int
) -> None:
    box = np.array([x0, y0, x1, y1], np.float32)
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    inside = (column >= box[0]) & (column < box[2]) & (row >= box[1]) & (row < box[3])
    assert (decode(from_box(box, height, width)) == inside).all()
