from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.masks import Rle, encode, to_patch
from pipeline.geometry.patches import count_parts_and_holes
from pipeline.geometry.runs import areas, count_shapes, cover, run_lengths

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@st.composite
def images(draw: st.DrawFn) -> list[np.ndarray]:
    """Masks of one size, with many corners that touch."""
    size = draw(SIZES)
    return draw(st.lists(arrays(np.bool_, st.just(size)), max_size=6))


def test_no_mask_has_no_shape() -> None:
    assert [len(column) for column in count_shapes([])] == [0, 0, 0]
    assert len(areas([])) == 0
    assert cover([], 12)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(masks=images())
def test_parts_and_holes_are_those_that_opencv_counts(masks: list[np.ndarray]) -> None:
    rles = [encode(mask) for mask in masks]
    found = count_shapes(rles)
    expected = [count_parts_and_holes(to_patch(rle)) for rle in rles]
    assert list(zip(found.parts.tolist(), found.holes.tolist(), strict=True)) == expected
    assert found.area.tolist() == areas(rles).tolist() == [int(mask.sum()) for mask in masks]


def test_a_ring_around_a_ring_is_two_parts_and_two_holes() -> None:
    mask = np.zeros((7, 7), bool)
    mask[[0, 6], :] = mask[:, [0, 6]] = True
    mask[2:5, 2:5] = True
    mask[3, 3] = False
    found = count_shapes([encode(mask), encode(~mask)])
    assert found.parts.tolist() == [2, 2]  # of the others, the ring between them and the middle
    assert found.holes.tolist() == [2, 1]


def test_a_background_run_of_no_pixel_joins_its_neighbours() -> None:
    from pycocotools import mask as coco_mask

    packed = coco_mask.frPyObjects({"size": [4, 3], "counts": [1, 1, 0, 2, 8]}, 4, 3)
    found = count_shapes([Rle(size=[4, 3], counts=packed["counts"])])
    assert [int(column[0]) for column in found] == [3, 1, 0]


@settings(deadline=None)
@given(masks=images())
def test_the_runs_of_many_are_those_of_each(masks: list[np.ndarray]) -> None:
    texts = [encode(mask)["counts"] for mask in masks]
    each = [mask_geometry._counts(text).tolist() for text in texts]
    found = run_lengths(texts)
    if texts:
        assert found is not None
        assert found[0].tolist() == [length for lengths in each for length in lengths]
        assert np.diff(found[1]).tolist() == [len(lengths) for lengths in each]
        assert cover(texts, masks[0].size)
        assert not cover(texts, masks[0].size + 1)


@pytest.mark.parametrize("text", [b"", b"o", b"0o", b"\xff", b"!", b"oooooooo0", b"O"])
def test_what_is_no_text_of_runs_covers_nothing(text: bytes) -> None:
    whole = encode(np.zeros((3, 4), bool))["counts"]
    assert not cover([text], 12)
    assert not cover([text, whole], 12)
    assert not cover([whole, text], 12)
