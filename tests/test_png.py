from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.images import read_mask, read_mask_values, read_size, write_png
from pipeline.png import has_exif, read_grey

FILTERS = [cv2.IMWRITE_PNG_FAST_FILTERS, cv2.IMWRITE_PNG_ALL_FILTERS, cv2.IMWRITE_PNG_FILTER_SUB,
           cv2.IMWRITE_PNG_FILTER_UP, cv2.IMWRITE_PNG_FILTER_PAETH,
           cv2.IMWRITE_PNG_FILTER_AVG] if hasattr(cv2, "IMWRITE_PNG_FILTER") else [0]  # fmt: skip


def encoded(pixels: np.ndarray, filters: int) -> bytes:
    options = [cv2.IMWRITE_PNG_FILTER, filters] if filters else []
    done, data = cv2.imencode(".png", pixels, options)
    assert done
    return data.tobytes()


@settings(max_examples=300, deadline=None)
@given(strategies.masks, st.sampled_from([1, 2, 128, 255]), st.sampled_from(FILTERS))
def test_a_mask_is_read_as_opencv_reads_it(mask: np.ndarray, value: int, filters: int) -> None:
    pixels = mask.astype(np.uint8) * np.uint8(value)
    found = read_grey(encoded(pixels, filters))
    assert found is None or np.array_equal(found, pixels)
    if filters not in FILTERS[1:2] + FILTERS[-1:]:  # the average filter is left to OpenCV
        assert found is not None


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(FILTERS),
)  # fmt: skip
def test_grey_values_are_read_right_or_left_to_opencv(
    seed: int, size: tuple[int, int], filters: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    found = read_grey(encoded(pixels, filters))
    assert found is None or np.array_equal(found, pixels)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_every_kind_of_png_is_a_mask(tmp_path: Path, mode: str) -> None:
    mask = np.zeros((9, 12), np.uint8)
    mask[2:5, 3:9] = 255
    image = Image.fromarray(mask)
    deep = Image.fromarray(mask.astype(np.uint16) * 257)
    image = deep if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "m.png")
    assert (read_mask(tmp_path / "m.png") == (mask > 0)).all()


def test_a_threshold_leaves_soft_edges_out(tmp_path: Path) -> None:
    write_png(tmp_path / "m.png", np.array([[0, 3, 127, 128, 129, 255]], np.uint8))
    assert read_mask(tmp_path / "m.png").tolist() == [[False, True, True, True, True, True]]
    assert read_mask(tmp_path / "m.png", 128).sum() == 2
    assert read_mask_values(tmp_path / "m.png").max() == 255


@pytest.mark.parametrize("cut", [0, 7, 20, 40, -1, -8])
def test_a_broken_file_is_never_read_as_a_mask(cut: int) -> None:
    data = encoded(np.eye(40, dtype=np.uint8), FILTERS[0])
    assert read_grey(data[:cut]) is None
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 0x55
    assert read_grey(bytes(damaged)) is None


def test_exif_in_a_png_is_found_without_decoding(tmp_path: Path) -> None:
    image = Image.new("L", (8, 6))
    image.save(tmp_path / "plain.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    assert not has_exif(tmp_path / "plain.png")
    assert has_exif(tmp_path / "turned.png")
    assert read_size(tmp_path / "plain.png") == (6, 8)
