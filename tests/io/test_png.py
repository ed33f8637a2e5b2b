from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.io.images import write_png
from pipeline.io.mask_files import read_mask, read_mask_values
from pipeline.io.png import read_grey

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


def test_rows_beyond_the_header_are_never_inflated() -> None:
    """A stream of a thousand times the picture's bytes, which says nothing of itself."""
    import struct
    import tracemalloc
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100, 100, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(50_000_000)))
    tracemalloc.start()
    assert read_grey(b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (1 << 21, 1), (1 << 31, 1 << 31)])
def test_sizes_beyond_sense_are_left_to_opencv(size: tuple[int, int]) -> None:
    import struct

    data = bytearray(encoded(np.eye(4, dtype=np.uint8), FILTERS[0]))
    data[16:24] = struct.pack(">II", *(side % (1 << 32) for side in size))
    assert read_grey(bytes(data)) is None
