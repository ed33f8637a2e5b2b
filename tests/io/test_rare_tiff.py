"""TIFF files that few programs write are read right, or refused in one line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from tiff_bytes import BYTE, SHORT, tiff

from pipeline.errors import DataError
from pipeline.io.images import read_image, read_size
from pipeline.io.mask_files import is_lossy, read_label_values, read_mask

SIZE = (20, 40)
MASK = np.zeros(SIZE, np.uint8)
MASK[3:9, 4:20] = 1
ON, NO, ALL = MASK * 255, MASK * 0, np.full(SIZE, 255, np.uint8)
RGB = np.stack([ON, NO, NO], axis=2)
WHITE = np.repeat(ON[:, :, None], 3, axis=2)
INKS = np.stack([255 - ON, 255 - ON, 255 - ON, NO], axis=2)  # CMYK
COLOURS = {320: (SHORT, [0, 65535, *[0] * 254, *[0] * 512])}  # 1 is red
NO_COLOUR, IS_ALPHA = {338: (SHORT, [0])}, {338: (SHORT, [2])}
WHITES = {
    "tiles": tiff(ON, is_tiled=True),
    "big endian": tiff(ON, is_big_endian=True),
    "16 bits": tiff(ON.astype(np.uint16) * 257),
    "16 bits, big endian, tiles": tiff(ON.astype(np.uint16) * 257, is_big_endian=True,
                                       is_tiled=True),
    "1 bit": tiff(np.packbits(MASK, axis=1), bits=1),
    "1 bit, white is zero": tiff(np.packbits(1 - MASK, axis=1), bits=1, colour=0),
    "4 bits": tiff((MASK[:, 0::2] * 240 | MASK[:, 1::2] * 15), bits=4),
    "CMYK": tiff(INKS, colour=5),
    "RGB with an unused channel": tiff(np.dstack([WHITE, NO]), colour=2, tags=NO_COLOUR),
    "RGB with alpha": tiff(np.dstack([WHITE, ALL]), colour=2, tags=IS_ALPHA),
    "thumbnails": tiff(ON, pages=3, subfile=1),
}  # fmt: skip


@pytest.mark.parametrize("name", WHITES)
def test_white_on_black_is_read_as_photo_and_as_mask(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(WHITES[name])
    assert read_size(path) == SIZE
    assert (read_image(path) == WHITE).all()
    assert (read_mask(path) == (MASK > 0)).all()


@pytest.mark.parametrize("is_tiled", [False, True])
@pytest.mark.parametrize("is_big_endian", [False, True])
def test_a_palette_is_colours_of_a_photo_and_numbers_of_a_label_map(
    tmp_path: Path, is_tiled: bool, is_big_endian: bool
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(
        tiff(MASK, colour=3, tags=COLOURS, is_tiled=is_tiled, is_big_endian=is_big_endian)
    )
    assert (read_image(path) == RGB).all()
    assert (read_label_values(path) == MASK).all()


def test_grey_with_alpha_is_background_where_it_is_transparent(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(np.dstack([ALL, ON]), tags=IS_ALPHA))
    assert (read_mask(path) == (MASK > 0)).all()
    assert (read_image(path) == 255).all()  # alpha is dropped


@pytest.mark.parametrize(("kind", "number"), [(np.float32, 3), (np.float64, 3), (np.int16, 2)])
def test_other_numbers_are_masks_and_no_photos(
    tmp_path: Path, kind: type[np.generic], number: int
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(MASK.astype(kind), sample_format=number))
    assert (read_mask(path) == (MASK > 0)).all()
    with pytest.raises(DataError, match=r"a\.tif: has pixels of type .*; save it with 8 or 16"):
        read_image(path)


def test_several_pages_of_one_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(ON, pages=3))
    for read in (read_size, read_image, read_mask):
        with pytest.raises(DataError, match=r"a\.tif: has 3 pages of one size"):
            read(path)


def test_pages_that_lead_back_to_themselves_end(tmp_path: Path) -> None:
    content = bytearray(tiff(ON, pages=2, subfile=1))
    content[-4:] = content[4:8]  # behind the second page comes the first
    (tmp_path / "a.tif").write_bytes(bytes(content))
    with pytest.raises(DataError, match="pages of one size"):
        read_size(tmp_path / "a.tif")


def test_colours_of_16_bits_are_no_label_map(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(RGB.astype(np.uint16) * 257, colour=2))
    assert (read_image(path) == RGB).all()
    with pytest.raises(DataError, match=r"a\.tif: has colours of type uint16; save it with 8 bits"):
        read_label_values(path)


def test_channels_beyond_all_are_one_line_without_a_line_of_pillow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = bytearray(tiff(ON))
    at = content.rfind(b"\x15\x01\x03\0\x01\0\0\0")  # tag 277, a SHORT: samples of a pixel
    content[at + 8 : at + 10] = b"\xff\xff"
    (tmp_path / "a.tif").write_bytes(bytes(content))
    for read in (read_label_values, read_image):
        with pytest.raises(DataError, match=r"a\.tif: is not a readable image"):
            read(tmp_path / "a.tif")
    assert caplog.messages == []


def test_five_channels_are_one_line(tmp_path: Path) -> None:
    tags = {338: (SHORT, [0] * 4), 259: (SHORT, [1]), 700: (BYTE, [0])}
    (tmp_path / "a.tif").write_bytes(tiff(np.dstack([ON] * 5), tags=tags))
    with pytest.raises(DataError, match=r"a\.tif: is not a readable image"):
        read_image(tmp_path / "a.tif")


def saved(form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    PillowImage.fromarray(RGB).save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "lossy"),
    [
        (saved("TIFF", compression="jpeg"), True),
        (saved("TIFF", compression="tiff_lzw"), False),
        (saved("WEBP"), True),
        (saved("WEBP", lossless=True), False),
        (saved("JPEG"), True),
        (saved("PNG"), False),
        (saved("BMP"), False),
    ],
)
def test_files_that_change_values_are_known(tmp_path: Path, content: bytes, lossy: bool) -> None:
    (tmp_path / "a").write_bytes(content)
    assert is_lossy(tmp_path / "a") is lossy


def test_a_cmyk_jpeg_has_the_colours_that_pillow_shows(tmp_path: Path) -> None:
    large = np.kron(RGB, np.ones((8, 8, 1), np.uint8))
    path = tmp_path / "a.jpg"
    PillowImage.fromarray(large).convert("CMYK").save(path, quality=95)
    with PillowImage.open(path) as image:
        shown = np.asarray(image.convert("RGB"), int)
    assert np.abs(read_image(path) - shown).max() <= 4
    assert shown[40, 80].tolist() == pytest.approx([255, 0, 0], abs=4)
