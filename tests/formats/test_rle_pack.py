"""Label Studio's brush code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from strategies import masks

from pipeline.formats.rle_pack import decode_brush, encode_brush, encode_brush_patch
from pipeline.geometry.patches import tight


def packed(bits: str) -> list[int]:
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def head(count: int, value_size: int, sizes: Sequence[int]) -> str:
    return f"{count:032b}{value_size - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes)


@given(masks)
def test_label_studios_brush_comes_back(mask: np.ndarray) -> None:
    assert (decode_brush(encode_brush(mask), *mask.shape) == mask).all()


def test_a_brush_of_label_studios_own_encoder_is_read() -> None:
    """Made by label_studio_sdk 2.1.2, converter/brush.py, encode_rle; it ends a byte later."""
    theirs = [0, 0, 0, 96, 57, 27, 254, 31, 0, 183, 255, 108, 2, 223, 254, 27, 0, 0]
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    assert (decode_brush(theirs, 4, 6) == mask).all()
    assert encode_brush(mask) == theirs[:-1]


def test_a_brush_with_literals_is_read() -> None:
    # 8 values of 8 bits, sizes 3, 4, 8, 16: a block of 8 literals (flag 0, size 00, length 7)
    bits = f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + "0" + "00" + "111"
    bits += "".join(f"{value:08b}" for value in (0, 0, 0, 0, 255, 255, 255, 255))
    bits += "0" * (-len(bits) % 8)
    data = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert decode_brush(data, 1, 2).tolist() == [[False, True]]
    with pytest.raises(ValueError, match="a brush of 8 values on an image of 3x1"):
        decode_brush(data, 1, 3)


def any_code(seed: int) -> tuple[list[int], np.ndarray]:
    """A code of any form that the format allows, and its mask: values and lengths of any size,
    literals that start and end inside a pixel."""
    draw = np.random.default_rng(seed)
    height, width = draw.integers(1, 10, 2)
    value_size, sizes = int(draw.integers(1, 33)), draw.integers(1, 17, 4).tolist()
    values: list[int] = []
    bits = head(height * width * 4, value_size, sizes)
    while (left := height * width * 4 - len(values)) > 0:
        choice, is_run = int(draw.integers(0, 4)), bool(draw.integers(0, 2))
        length = int(draw.integers(1, min(left, 2 ** sizes[choice], 13) + 1))
        drawn = draw.integers(0, 2**value_size, length) * draw.integers(0, 2, length)
        new = [int(drawn[0])] * length if is_run else drawn.tolist()
        bits += f"{is_run:b}{choice:02b}{length - 1:0{sizes[choice]}b}"
        bits += "".join(f"{value:0{value_size}b}" for value in (new[:1] if is_run else new))
        values += new
    return packed(bits), np.array(values).reshape(height, width, 4)[:, :, 3] > 0


codes = st.integers(0, 2**32).map(any_code)


@given(codes)
def test_every_code_of_the_format_is_read(drawn: tuple[list[int], np.ndarray]) -> None:
    code, mask = drawn
    assert (decode_brush(code, *mask.shape) == mask).all()


@given(codes, st.data())
def test_a_code_that_is_cut_off_is_refused(
    drawn: tuple[list[int], np.ndarray], draw: st.DataObject
) -> None:
    code, mask = drawn
    with pytest.raises(ValueError, match="a brush"):
        decode_brush(code[: draw.draw(st.integers(0, len(code) - 1))], *mask.shape)


@given(arrays(np.uint8, st.integers(0, 90)), st.integers(1, 3), st.integers(1, 3))
def test_noise_is_a_mask_or_refused(noise: np.ndarray, height: int, width: int) -> None:
    code = packed(head(height * width * 4, 8, (3, 4, 8, 16)))[:-1] + noise.tolist()
    try:
        assert decode_brush(code, height, width).shape == (height, width)
    except ValueError as error:
        assert "a brush" in str(error)


@pytest.mark.parametrize("shape", [(1, 70_000), (300, 300)])
def test_runs_longer_than_a_block_take_several(shape: tuple[int, int]) -> None:
    """A block has at most 65,536 values, which are 16,384 pixels."""
    for mask in (np.zeros(shape, bool), np.ones(shape, bool)):
        assert (decode_brush(encode_brush(mask), *shape) == mask).all()


@given(masks)
def test_a_patch_has_the_code_of_its_mask(mask: np.ndarray) -> None:
    assert encode_brush_patch(tight(mask), *mask.shape) == encode_brush(mask)
