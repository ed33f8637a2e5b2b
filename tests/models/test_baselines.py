from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes
from pipeline.interfaces import Segmenter
from pipeline.models.baselines import (
    BoxFillSegmenter,
    GrabCutSegmenter,
    MeanShapeSegmenter,
)


@pytest.mark.parametrize("segmenter", [BoxFillSegmenter(), GrabCutSegmenter()])
def test_every_box_has_one_row_and_a_box_outside_fails(segmenter: Segmenter) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    assert segmenter.segment(image, as_boxes([])).masks == ()
    found = segmenter.segment(image, as_boxes([[70, 5, 90, 9], [10, 10, 30, 30]]))
    assert found.failed.tolist() == [True, False]


def test_a_filled_box_has_the_boxs_area() -> None:
    found = BoxFillSegmenter().segment(np.zeros((40, 60, 3), np.uint8), as_boxes([[5, 6, 9, 16]]))
    assert mask_geometry.area(found.masks[0]) == 40


@pytest.mark.parametrize("side", [120, 1200])  # the larger one is shrunk on the way
def test_grabcut_cuts_a_bright_disc_out_of_the_dark(side: int) -> None:
    y, x = np.mgrid[0:side, 0:side] / side
    image = np.random.default_rng(0).integers(20, 40, (side, side, 3)).astype(np.uint8)
    disc = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.2**2
    image[disc] += 180
    box = as_boxes([[0.28 * side, 0.28 * side, 0.72 * side, 0.72 * side]])
    found = GrabCutSegmenter().segment(image, box)
    assert mask_geometry.paired_iou(found.masks[0], mask_geometry.encode(disc)) > 0.95


def test_a_mean_shape_is_stretched_to_each_box() -> None:
    """A square in the middle of its box, half as wide: 16 x 16 and 32 x 16 pixels in the boxes."""
    centre = np.zeros((64, 64), bool)
    centre[16:48, 16:48] = True
    boxes = as_boxes([[10, 10, 42, 42], [0, 0, 64, 32], [90, 0, 99, 9]])
    masks = MeanShapeSegmenter([centre, centre]).segment(np.zeros((64, 80, 3), np.uint8), boxes)
    areas = [mask_geometry.area(rle) for rle in masks.masks]
    assert areas[:2] == pytest.approx([16 * 16, 32 * 16], rel=0.15)
    assert masks.failed.tolist() == [False, False, True]


def test_a_mean_shape_is_mirrored_both_ways() -> None:
    """A corner of 24 x 24 in 64 x 64 becomes four corners, each the mirror image of the others."""
    corner = np.zeros((64, 64), bool)
    corner[:24, :24] = True
    box = as_boxes([[0, 0, 64, 64]])
    mask = MeanShapeSegmenter([corner]).segment(np.zeros((64, 64, 3), np.uint8), box).masks[0]
    pixels = mask_geometry.decode(mask)
    assert pixels.sum() == 4 * 24 * 24
    assert (pixels == pixels[:, ::-1]).all()
    assert (pixels == pixels[::-1]).all()
