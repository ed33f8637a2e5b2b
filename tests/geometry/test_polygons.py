from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.geometry.polygons import draw_yolo, pixel_centre_ring, to_yolo

random_masks = arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20)))


def there_and_back(mask: np.ndarray) -> np.ndarray:
    return draw_yolo(to_yolo(pixel_centre_ring(mask), *mask.shape), *mask.shape)


def test_an_empty_mask_has_no_ring() -> None:
    assert pixel_centre_ring(np.zeros((5, 5), bool)).shape == (0, 2)
    assert not there_and_back(np.zeros((5, 5), bool)).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (10, 10)])
def test_what_is_drawn_back_is_the_mask_even_for_one_pixel_and_a_scratch(
    shape: tuple[int, int],
) -> None:
    mask = np.zeros((16, 16), bool)
    mask[3 : 3 + shape[0], 4 : 4 + shape[1]] = True
    assert (there_and_back(mask) == mask).all()
    assert len(pixel_centre_ring(mask)) >= 3


def test_a_hole_is_filled_for_yolo_knows_none() -> None:
    mask = np.ones((9, 9), bool)
    mask[3:6, 3:6] = False
    assert there_and_back(mask).sum() == 81


@settings(max_examples=60, deadline=None)
@given(random_masks)
def test_no_pixel_of_the_mask_is_lost(mask: np.ndarray) -> None:
    assert (there_and_back(mask) | ~mask).all()


def test_parts_are_joined_by_a_seam_one_pixel_wide_at_most() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:6, 2:6] = mask[2:6, 12:16] = True
    extra = there_and_back(mask) & ~mask
    assert 0 < extra.sum() <= 6  # columns 6 to 11 between the parts
