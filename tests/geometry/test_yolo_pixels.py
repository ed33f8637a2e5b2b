"""What the numbers of YOLO polygons mean, by the writers of other tools."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.formats.yolo_labels import parse_labels
from pipeline.geometry.masks import area, decode
from pipeline.geometry.patches import tight
from pipeline.geometry.polygons import centre_ring, draw_yolo, to_yolo
from pipeline.geometry.yolo_pixels import Grid, common_grid, draw_between, rounding
from pipeline.models import ultralytics_offline

HEIGHT, WIDTH = 75, 100


def drawn(
    points: np.ndarray, decimals: int, height: int = HEIGHT, width: int = WIDTH
) -> np.ndarray:
    """The mask of one polygon, normalised xy (P, 2), written with some decimals."""
    text = " ".join(["0", *(f"{value:.{decimals}f}" for value in points.ravel())])
    masks = parse_labels(text, (height, width), 1).masks
    assert masks is not None
    return np.asarray(decode(masks[0]), bool)


def blob(side: int, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A mask (H, W) of one part: a convex hull of points in a square."""
    generator = np.random.default_rng(seed)
    points = generator.uniform(0, side, (8, 2)) + np.array([width // 3, height // 3])
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(points.astype(np.int32)), 1)
    return mask.astype(bool)


def contour(mask: np.ndarray) -> np.ndarray:
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return found[0][:, 0].astype(np.float64)


def test_no_polygon_is_on_no_raster() -> None:
    assert common_grid([], [], HEIGHT, WIDTH) is None


def test_our_own_polygons_are_on_the_middles_of_pixels() -> None:
    mask = blob(9)
    ring = to_yolo(centre_ring(tight(mask)), HEIGHT, WIDTH)
    assert common_grid([ring], [np.full(ring.shape, 1e-9)], HEIGHT, WIDTH) == Grid(
        WIDTH, HEIGHT, 0.5
    )
    assert (drawn(ring, 6) == mask).all()


@pytest.mark.parametrize("decimals", [5, 6])  # supervision, ultralytics
@pytest.mark.parametrize("side", [4, 9, 30])
def test_contours_of_opencv_come_back_to_the_pixel(side: int, decimals: int) -> None:
    """1000 pixels and 5 decimals: a point is up to 0.005 pixels off, to either side."""
    for seed in range(10):
        mask = blob(side, seed, 750, 1000)
        ring = contour(mask) / [1000, 750]
        assert (drawn(ring, decimals, 750, 1000) == mask).all()


def test_points_between_pixels_hold_the_pixels_whose_centres_are_inside() -> None:
    """5 x 5 pixels: fillPoly would draw columns 20 to 25 and rows 10 to 15, 36 pixels."""
    square = np.array([(20.3, 10.3), (25.3, 10.3), (25.3, 15.3), (20.3, 15.3)])
    mask = drawn(square / [WIDTH, HEIGHT], 8)
    assert mask.sum() == 25
    assert mask[10:15, 20:25].all()


@pytest.mark.parametrize(("side", "ours", "filled"), [(5, 1.02, 1.54), (10, 1.01, 1.27),
                                                      (50, 1.0, 1.05)])  # fmt: skip
def test_drawn_polygons_have_the_area_that_a_person_drew(
    side: int, ours: float, filled: float
) -> None:
    """The pixels over the area, and those of fillPoly."""
    generator = np.random.default_rng(0)
    pixels, by_fill, true = 0, 0, 0.0
    for _ in range(50):
        centre = generator.uniform(100, 300, 2)
        angles = np.sort(generator.uniform(0, 2 * np.pi, 9))
        ring = centre + side / 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        true += abs(cv2.contourArea(ring.astype(np.float32)))
        pixels += int(drawn(ring / [400, 400], 10, 400, 400).sum())
        by_fill += draw_yolo(ring / [400, 400], 400, 400).area
    assert pixels / true == pytest.approx(ours, abs=0.006)
    assert by_fill / true == pytest.approx(filled, abs=0.006)


def test_a_line_thinner_than_a_pixel_stays_in_one_piece() -> None:
    """0.5 pixels wide: hardly any centre is inside."""
    line = np.array([(10.2, 10.1), (50.2, 30.1), (50.2, 30.6), (10.2, 10.6)])
    patch = draw_between(line, HEIGHT, WIDTH)
    assert patch.area >= 40
    assert cv2.connectedComponents(patch.pixels.astype(np.uint8))[0] == 2  # background, the line


def test_a_polygon_that_holds_no_centre_is_not_lost() -> None:
    small = np.array([(10.6, 10.6), (11.4, 10.6), (11.4, 11.4), (10.6, 11.4)])
    assert draw_between(small, HEIGHT, WIDTH).area > 0


def test_a_box_among_polygons_has_edges() -> None:
    """10 x 15 pixels, though the polygon beside it is on whole pixels."""
    text = "0 0.25 0.3 0.1 0.2\n0 0.5 0.4 0.6 0.4 0.6 0.6 0.5 0.6\n"
    masks = parse_labels(text, (HEIGHT, WIDTH), 1).masks
    assert masks is not None
    assert area(masks[0]) == 150
    assert area(masks[1]) == 11 * 16  # columns 50 to 60, rows 30 to 45


def test_a_point_at_the_edge_of_the_image_is_no_pixel() -> None:
    """x = 1 is column 100 of 100: between pixels, so 20 x 15."""
    masks = parse_labels("0 0.8 0.4 1 0.4 1 0.6 0.8 0.6\n", (HEIGHT, WIDTH), 1).masks
    assert masks is not None
    assert area(masks[0]) == 300


@pytest.mark.parametrize("size", [(750, 1000), (720, 1280), (300, 400)])
def test_predictions_of_ultralytics_come_back_as_its_network_drew_them(
    size: tuple[int, int],
) -> None:
    """The mask is on the network's input of 640 pixels; its contour is scaled to the photo."""
    ultralytics_offline.load()
    from ultralytics.utils.ops import masks2segments, scale_coords

    height, width = size
    rows, columns = round(height * 640 / width), 640
    padded = -(-rows // 32) * 32
    top = round((padded - rows) / 2 - 0.1)
    inner = cv2.ellipse(
        np.zeros((rows, columns), np.uint8), (240, 170), (21, 13), 30, 0, 360, 1, -1
    )
    mask = np.pad(inner, ((top, padded - rows - top), (0, 0)))
    (segment,) = masks2segments(mask[None])
    scaled = scale_coords(mask.shape, segment, size, normalize=True)
    text = " ".join(f"{value:g}" for value in [0, *np.asarray(scaled).ravel().tolist()])
    masks = parse_labels(text, size, 1).masks
    assert masks is not None
    at_rows = ((np.arange(height) + 0.5) * rows / height).astype(int)
    at_columns = ((np.arange(width) + 0.5) * columns / width).astype(int)
    assert (np.asarray(decode(masks[0]), bool) == (inner[np.ix_(at_rows, at_columns)] > 0)).all()


def test_numbers_are_as_exact_as_they_are_written() -> None:
    """Five decimals and fewer: half of 0.00001; nine and more: half of 1e-9; 1e-7 is of 32 bits."""
    assert rounding(["0.5", "0.12345", "0.1234567890123"]) == pytest.approx(
        [5.1e-6, 5.1e-6, 1.005e-7]
    )
