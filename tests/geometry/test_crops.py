from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import crops
from pipeline.geometry.boxes import as_boxes
from pipeline.geometry.crops import DIHEDRAL_COUNT, Crop


def test_a_crop_is_centred_on_its_box_and_scale_times_as_wide() -> None:
    """Box 40 x 20 about (50, 30), scale 2: side 80, from (50 - 40, 30 - 40)."""
    box = np.array([30, 20, 70, 40], np.float32)
    assert crops.square_crop(box, 2.0) == Crop(10, -10, 80)


def test_a_crop_around_one_pixel_has_32_pixels() -> None:
    assert crops.square_crop(np.array([5, 5, 6, 6], np.float32), 2.0).side == 32


def test_the_whole_image_at_its_own_size_is_cut_out_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    assert (crops.crop_image(image, Crop(0, 0, 64), 64) == image).all()


def test_outside_the_image_a_crop_is_grey_and_its_mask_empty() -> None:
    image, mask = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), bool)
    pixels = crops.crop_image(image, Crop(-8, 0, 16), 16)
    assert pixels[4, 3].tolist() == [124, 116, 104]
    covered = crops.crop_mask(mask, Crop(-8, 0, 16), 16)
    assert (covered[:8, :7] == 0).all()
    assert (covered[:8, 9:] == 1).all()


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_mask_survives_the_way_into_a_crop_and_back(scale: int) -> None:
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:52] = True
    crop = Crop(20, 10, 40)
    logits = crops.crop_mask(mask, crop, 40 * scale) - 0.5
    x, y, values = crops.uncrop(logits, crop, (60, 80))
    back = np.zeros_like(mask)
    back[y : y + values.shape[0], x : x + values.shape[1]] = values > 0
    assert (back == mask).all()


def test_a_shrunk_mask_is_the_share_of_each_pixel_that_it_covers() -> None:
    """Every other column of 64, resized to 32: each pixel is half covered."""
    mask = np.zeros((64, 64), bool)
    mask[:, ::2] = True
    covered = crops.crop_mask(mask, Crop(0, 0, 64), 32)
    assert covered[:, 1:-1] == pytest.approx(0.5, abs=0.01)


@given(st.integers(0, DIHEDRAL_COUNT - 1))
def test_the_inverse_undoes_every_position(position: int) -> None:
    pixels = np.arange(16 * 3).reshape(4, 4, 3)
    assert (crops.dihedral_inverse(crops.dihedral(pixels, position), position) == pixels).all()


@given(st.integers(0, DIHEDRAL_COUNT - 1), st.integers(0, 11), st.integers(0, 11))
def test_a_box_turns_with_its_pixels(position: int, x: int, y: int) -> None:
    pixels = np.zeros((16, 16), np.uint8)
    pixels[y : y + 3, x : x + 4] = 1
    box = crops.dihedral_boxes(as_boxes([[x, y, x + 4, y + 3]]), position, 16)[0]
    ys, xs = np.nonzero(crops.dihedral(pixels, position))
    assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_boxes_are_scaled_into_a_crop() -> None:
    """(20 - 10) * 4 = 40."""
    found = crops.to_crop(as_boxes([[20, 15, 30, 25]]), Crop(10, 5, 16), 64)
    assert found.tolist() == [[40, 40, 80, 80]]


def test_a_crop_beside_the_image_gives_no_pixels_back() -> None:
    x, y, values = crops.uncrop(np.ones((8, 8), np.float32), Crop(100, 0, 8), (20, 20))
    assert (x, y, values.size) == (0, 0, 0)
