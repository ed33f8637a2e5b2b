from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from pipeline.errors import DataError
from pipeline.io.images import read_image, read_size, write_png
from pipeline.io.mask_files import read_mask

BLOCK = np.zeros((6, 8), np.uint8)
BLOCK[1:3, 2:5] = 1


@pytest.mark.parametrize(
    "stored",
    [
        BLOCK,  # 0/1
        BLOCK * 255,
        np.repeat((BLOCK * 255)[:, :, None], 3, axis=2),  # RGB
        np.dstack([*[BLOCK * 255] * 3, np.full_like(BLOCK, 255)]),  # alpha is not defect
        BLOCK.astype(np.uint16) * 65535,
    ],
    ids=["0/1", "0/255", "rgb", "rgba", "16 bit"],
)
def test_a_mask_is_what_is_not_zero_however_it_is_stored(
    tmp_path: Path, stored: np.ndarray
) -> None:
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), stored)
    assert (read_mask(path) == BLOCK.astype(bool)).all()


def test_16_bit_images_keep_their_range(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), np.array([[0, 65535, 32896]], np.uint16))
    assert read_image(path)[0, :, 0].tolist() == [0, 255, 128]  # 32896 / 257 = 128


def test_red_is_the_first_channel_and_grey_has_three(tmp_path: Path) -> None:
    write_png(tmp_path / "red.png", np.full((2, 2, 3), (255, 0, 0), np.uint8))
    assert read_image(tmp_path / "red.png")[0, 0].tolist() == [255, 0, 0]
    write_png(tmp_path / "grey.png", np.full((2, 2), 7, np.uint8))
    assert read_image(tmp_path / "grey.png").shape == (2, 2, 3)


def test_spaces_and_other_alphabets_in_paths_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "Reißverschluß 拉链" / "a b.png"
    write_png(path, BLOCK)
    assert read_mask(path).sum() == 6
    assert read_size(path) == (6, 8)


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg"])
def test_a_truncated_file_is_named_though_decoders_fill_it_with_grey(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    PillowImage.fromarray(noise).save(path)
    assert read_size(path) == read_image(path).shape[:2] == (64, 64)
    path.write_bytes(path.read_bytes()[:-400])
    for reader in (read_image, read_size):
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            reader(path)


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for reader in (read_image, read_mask, read_size):
        with pytest.raises(DataError, match="not a readable image"):
            reader(path)


def test_a_damaged_png_is_one_line_and_the_library_below_adds_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A byte in the middle of the pixels is another: the check sum of its chunk is wrong."""
    path = tmp_path / "x.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    PillowImage.fromarray(noise).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    for reader in (read_image, read_mask):
        with pytest.raises(DataError, match="not a readable image"):
            reader(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"GIF89a", "a GIF file"),
        (b"\0\0\0\x1cftypavif", "an AVIF file"),
        (b"\0\0\0\x0cjP  \r\n", "a JPEG 2000 file"),
        (b"P6\n3 2\n", "a PNM file"),
    ],
)
def test_a_picture_of_another_format_is_named_with_what_to_do(
    tmp_path: Path, start: bytes, name: str
) -> None:
    (tmp_path / "a.png").write_bytes(start + bytes(100))
    for read in (read_size, read_image):
        with pytest.raises(DataError, match=f"is {name}, not PNG, .*; save it as PNG"):
            read(tmp_path / "a.png")


def test_an_animated_webp_is_named_as_one(tmp_path: Path) -> None:
    frames = [PillowImage.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="is an animation"):
        read_size(tmp_path / "a.webp")
    frames[0].save(tmp_path / "b.webp")
    assert read_size(tmp_path / "b.webp") == (6, 8)


def test_a_mask_drawn_in_black_on_nothing_is_read_by_its_transparency(tmp_path: Path) -> None:
    """As painting programs export a layer. Where nothing is transparent, black is background."""
    nothing = np.zeros_like(BLOCK)
    for channels in (2, 4):
        drawn = np.dstack([*[nothing] * (channels - 1), BLOCK * 255])
        PillowImage.fromarray(drawn).save(tmp_path / "m.png")
        assert (read_mask(tmp_path / "m.png") == BLOCK.astype(bool)).all()
        opaque = np.dstack([*[nothing] * (channels - 1), np.full_like(BLOCK, 255)])
        PillowImage.fromarray(opaque).save(tmp_path / "m.png")
        assert not read_mask(tmp_path / "m.png").any()
