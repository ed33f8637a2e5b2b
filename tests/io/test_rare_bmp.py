"""BMP files that few programs write are read right, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bmp_bytes import BITFIELDS, RLE8, bmp, rows, run_lengths

from pipeline.errors import DataError
from pipeline.io.images import read_image, read_size
from pipeline.io.mask_files import read_label_values, read_mask

SIZE = (4, 6)
MASK = np.zeros(SIZE, np.uint8)
MASK[1:3, 2:5] = 1
WHITE = np.repeat(MASK[:, :, None] * 255, 3, axis=2)
RED = WHITE * np.array([1, 0, 0], np.uint8)
GREY = [(value, value, value) for value in range(256)]
BLACK_WHITE = [(0, 0, 0), (255, 255, 255)]
XRGB = (0xFF0000, 0xFF00, 0xFF)
XBGR = XRGB[::-1]
ALPHA = 0xFF000000


def one_bit(mask: np.ndarray) -> list[bytes]:
    return [np.packbits(row).tobytes() for row in mask]


def words(mask: np.ndarray, value: int) -> list[bytes]:
    """Rows of 16-bit pixels."""
    return [(row.astype(np.uint16) * value).astype("<u2").tobytes() for row in mask]


def fours(*channels: np.ndarray) -> list[bytes]:
    """Rows of 32-bit pixels, byte by byte."""
    return [row.astype(np.uint8).tobytes() for row in np.stack(channels, axis=2)]


ON, NO, ALL = MASK * 255, MASK * 0, np.full(SIZE, 255)
FILES = {
    "1 bit": bmp(SIZE, 1, rows(one_bit(MASK)), palette=BLACK_WHITE),
    "1 bit, white first": bmp(SIZE, 1, rows(one_bit(1 - MASK)), palette=BLACK_WHITE[::-1]),
    "1 bit, OS/2": bmp(SIZE, 1, rows(one_bit(MASK)), palette=BLACK_WHITE, header=12),
    "8 bits, top down": bmp(SIZE, 8, rows([row.tobytes() for row in ON], True), palette=GREY,
                            top_down=True),
    "RLE8": bmp(SIZE, 8, run_lengths(ON), compression=RLE8, palette=GREY),
    "555": bmp(SIZE, 16, rows(words(MASK, 0x7FFF))),
    "565": bmp(SIZE, 16, rows(words(MASK, 0xFFFF)), compression=BITFIELDS,
               masks=(0xF800, 0x7E0, 0x1F)),
    "565, later header": bmp(SIZE, 16, rows(words(MASK, 0xFFFF)), compression=BITFIELDS,
                             masks=(0xF800, 0x7E0, 0x1F, 0), header=108),
    "24 bits, OS/2": bmp(SIZE, 24, rows([row.tobytes() for row in WHITE]), header=12),
    "24 bits, OS/2 2": bmp(SIZE, 24, rows([row.tobytes() for row in WHITE]), header=64),
    "24 bits, top down": bmp(SIZE, 24, rows([row.tobytes() for row in WHITE], True), top_down=True),
    "32 bits, empty byte": bmp(SIZE, 32, rows(fours(ON, ON, ON, NO))),
    "32 bits, top down": bmp(SIZE, 32, rows(fours(ON, ON, ON, NO), True), top_down=True),
    "32 bits, no alpha by masks": bmp(SIZE, 32, rows(fours(ON, ON, ON, NO)),
                                      compression=BITFIELDS, masks=XRGB),
    "32 bits, alpha": bmp(SIZE, 32, rows(fours(ON, ON, ON, ALL)), compression=BITFIELDS,
                          masks=(*XRGB, ALPHA), header=124),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_white_on_black_is_read_as_photo_and_as_mask(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.bmp"
    path.write_bytes(FILES[name])
    assert read_size(path) == SIZE
    assert (read_image(path) == WHITE).all()
    assert (read_mask(path) == (MASK > 0)).all()


@pytest.mark.parametrize(
    ("masks", "channels"), [(XRGB, (NO, NO, ON, NO)), (XBGR, (ON, NO, NO, NO))]
)
def test_masks_of_bits_say_which_channel_is_red(
    tmp_path: Path, masks: tuple[int, int, int], channels: tuple[np.ndarray, ...]
) -> None:
    content = bmp(SIZE, 32, rows(fours(*channels)), compression=BITFIELDS, masks=masks)
    (tmp_path / "a.bmp").write_bytes(content)
    assert (read_image(tmp_path / "a.bmp") == RED).all()


def test_five_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    """16 of 31 is 16 * 255 / 31 = 131.6."""
    content = bmp(SIZE, 16, rows(words(np.ones(SIZE, np.uint8), 16 << 10)))
    (tmp_path / "a.bmp").write_bytes(content)
    assert read_image(tmp_path / "a.bmp")[0, 0].tolist() == [132, 0, 0]


def test_what_is_transparent_is_no_mask(tmp_path: Path) -> None:
    content = bmp(SIZE, 32, rows(fours(ALL, ALL, ALL, ON)), compression=BITFIELDS,
                  masks=(*XRGB, ALPHA), header=124)  # fmt: skip
    (tmp_path / "a.bmp").write_bytes(content)
    assert (read_mask(tmp_path / "a.bmp") == (MASK > 0)).all()


def test_a_label_map_has_the_numbers_of_its_palette(tmp_path: Path) -> None:
    palette = [(0, 0, 0), *[(200, 10, 30)] * 3]
    content = bmp(SIZE, 8, run_lengths(MASK * 3), compression=RLE8, palette=palette)
    (tmp_path / "a.bmp").write_bytes(content)
    assert (read_label_values(tmp_path / "a.bmp") == MASK * 3).all()


@pytest.mark.parametrize(
    "content",
    [
        bmp(SIZE, 16, b"\0" * 8),  # of 4 x 12 bytes
        bmp(SIZE, 16, rows(words(MASK, 1)), compression=BITFIELDS, masks=(0b101, 0x7E0, 0x1F)),
        bmp(SIZE, 32, b"", compression=BITFIELDS, masks=XRGB),
        bmp(SIZE, 24, b"\0" * 100, compression=4),  # JPEG inside
    ],
    ids=["cut off", "bits that are apart", "no pixels", "JPEG inside"],
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.bmp").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.bmp: is not a readable image"):
        read_image(tmp_path / "a.bmp")
