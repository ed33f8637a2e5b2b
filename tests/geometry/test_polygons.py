from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from shapely import Polygon

from pipeline.geometry import patches
from pipeline.geometry.patches import Patch, paste
from pipeline.geometry.polygons import (
    centre_ring,
    coco_rings,
    draw_centres,
    draw_coco,
    draw_yolo,
    edge_polygons,
    patch_iou,
    simplified,
    to_yolo,
)


def through_yolo(mask: np.ndarray, holes: bool = True) -> np.ndarray:
    ring = to_yolo(centre_ring(patches.tight(mask), holes), *mask.shape)
    return paste(draw_yolo(ring, *mask.shape), *mask.shape)


def test_an_empty_mask_has_no_ring() -> None:
    nothing = patches.tight(np.zeros((5, 5), bool))
    assert centre_ring(nothing).shape == (0, 2)
    assert coco_rings(nothing) == edge_polygons(nothing) == []
    assert not through_yolo(np.zeros((5, 5), bool)).any()
    assert draw_coco([], 5, 5).area == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2), (10, 10)])
def test_one_pixel_and_a_scratch_come_back_from_yolo_and_coco(shape: tuple[int, int]) -> None:
    mask = np.zeros((16, 16), bool)
    mask[3 : 3 + shape[0], 4 : 4 + shape[1]] = True
    assert (through_yolo(mask) == mask).all()
    assert len(centre_ring(patches.tight(mask))) >= 3
    (ring,) = coco_rings(patches.tight(mask))
    assert sorted(map(tuple, ring)) == sorted(
        [(4, 3), (4 + shape[1], 3), (4, 3 + shape[0]), (4 + shape[1], 3 + shape[0])]
    )


@settings(max_examples=150, deadline=None)
@given(strategies.masks)
def test_edge_rings_come_back_from_pycocotools_with_no_pixel_changed(mask: np.ndarray) -> None:
    drawn = draw_coco(coco_rings(patches.tight(mask)), *mask.shape)
    assert (paste(drawn, *mask.shape) == mask).all()


@settings(max_examples=150, deadline=None)
@given(strategies.masks)
def test_edge_polygons_are_valid_and_have_the_masks_area(mask: np.ndarray) -> None:
    polygons = [Polygon(rings[0], rings[1:]) for rings in edge_polygons(patches.tight(mask))]
    assert all(polygon.is_valid for polygon in polygons)
    assert sum(polygon.area for polygon in polygons) == mask.sum()
    parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
    assert len(polygons) == parts


def test_a_hole_survives_in_a_yolo_polygon() -> None:
    mask = np.ones((9, 9), bool)
    mask[3:6, 3:6] = False
    assert (through_yolo(mask) == mask).all()
    assert through_yolo(mask, holes=False).sum() == 81


@settings(max_examples=150, deadline=None)
@given(strategies.masks)
def test_a_yolo_polygon_loses_no_pixel_and_adds_none_but_seams_and_pinholes(
    mask: np.ndarray,
) -> None:
    drawn = through_yolo(mask)
    assert (drawn | ~mask).all()
    for part in patches.components(mask):
        alone = paste(part, *mask.shape)
        extra = through_yolo(alone, holes=False) & ~alone
        holes = paste(Patch(0, 0, _filled(alone)), *mask.shape) & ~alone
        assert not (extra & ~holes).any()  # one part: without seams, only its holes are filled


def _filled(mask: np.ndarray) -> np.ndarray:
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, labels = cv2.connectedComponents(outside, connectivity=4)
    return np.asarray(labels != labels[0, 0])[1:-1, 1:-1]


def test_parts_are_joined_by_a_seam_one_pixel_wide_at_most() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:6, 2:6] = mask[2:6, 12:16] = True
    extra = through_yolo(mask) & ~mask
    assert 0 < extra.sum() <= 6  # columns 6 to 11 between the parts


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.1])
def test_a_simplified_ring_has_fewer_vertices_and_keeps_its_bound(loss: float) -> None:
    mask = np.zeros((120, 120), np.uint8)
    cv2.circle(mask, (60, 60), 40, 1, -1)
    patch = patches.tight(mask.astype(bool))
    draw = partial(draw_coco, height=120, width=120)
    rings = simplified(coco_rings(patch), patch, draw, loss)
    assert patch_iou(patch, draw(rings)) >= 1 - loss
    assert (len(rings[0]) < len(coco_rings(patch)[0])) == (loss > 0)


def test_what_lies_outside_the_image_is_cut_off() -> None:
    ring = np.array([(-3, -2), (4, -2), (4, 5), (-3, 5)])
    drawn = draw_centres(ring, 4, 3)
    assert drawn.box == (0, 0, 3, 4)
    assert drawn.area == 12


def test_what_the_decimals_of_a_file_take_from_a_whole_pixel_is_given_back() -> None:
    """10 of 120 pixels is written as 0.083333, which is 9.99996. From 10 to 40 and from 20 to 40,
    `fillPoly` fills both ends: 31 x 21 pixels."""
    ring = np.array([(0.083333, 0.2), (0.333333, 0.2), (0.333333, 0.4), (0.083333, 0.4)])
    patch = draw_yolo(ring, 100, 120)
    assert (patch.x, patch.y, patch.area) == (10, 20, 31 * 21)
