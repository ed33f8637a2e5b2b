"""Photos that EXIF rotates: read upright, and written so that every reader sees them upright."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline.errors import DataError
from pipeline.io.exif import upright
from pipeline.io.image_copies import place_image
from pipeline.io.images import read_image, read_size, refuse_other_size
from pipeline.io.mask_files import read_indices, read_mask_values
from pipeline.io.run_record import RunRecord, read_run_file

PIXELS = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
SUFFIXES = {"PNG": ".png", "TIFF": ".tif", "WEBP": ".webp", "JPEG": ".jpg"}


def photo(path: Path, form: str, orientation: int, pixels: np.ndarray = PIXELS) -> Path:
    """A picture whose EXIF holds an orientation."""
    exif = PillowImage.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    PillowImage.fromarray(pixels).save(path, format=form, exif=exif, **options)
    return path


def shown(path: Path) -> np.ndarray:
    """A picture as Pillow shows it upright, (H, W, 3)."""
    with PillowImage.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize(
    ("orientation", "top_left"),
    [
        (1, (0, 0)),  # 4 rows of 6 pixels: the stored pixel that is shown at the top left
        (2, (0, 5)),
        (3, (3, 5)),
        (4, (3, 0)),
        (5, (0, 0)),
        (6, (3, 0)),
        (7, (3, 5)),
        (8, (0, 5)),
    ],
)
def test_the_shown_corner_is_the_one_that_exif_names(
    orientation: int, top_left: tuple[int, int]
) -> None:
    turned = upright(PIXELS, orientation)
    assert turned.shape == ((6, 4) if orientation >= 5 else (4, 6))
    assert turned[0, 0] == PIXELS[top_left]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", SUFFIXES)
def test_every_orientation_is_read_as_pillow_shows_it(
    tmp_path: Path, form: str, orientation: int
) -> None:
    colours = np.dstack([PIXELS, PIXELS // 2, 255 - PIXELS])
    path = photo(tmp_path / "a", form, orientation, colours)
    truth = shown(path)
    assert read_size(path) == truth.shape[:2]
    assert np.abs(read_image(path).astype(int) - truth).max() <= (6 if form == "JPEG" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_a_mask_is_turned_as_its_photo_is(tmp_path: Path, form: str, orientation: int) -> None:
    path = photo(tmp_path / "a", form, orientation)
    truth = upright(PIXELS, orientation)
    assert (read_mask_values(path, truth.shape, "photo") == truth).all()
    palette = PillowImage.fromarray(PIXELS // 10).convert("P")
    exif = PillowImage.Exif()
    exif[0x112] = orientation
    palette.save(tmp_path / "b", format=form, exif=exif)
    assert (read_indices(tmp_path / "b") == truth // 10).all()


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_exif_does_not_know_turns_nothing(
    tmp_path: Path, orientation: int
) -> None:
    assert read_size(photo(tmp_path / "a.jpg", "JPEG", orientation)) == (4, 6)


def test_broken_exif_turns_nothing(tmp_path: Path) -> None:
    stream = io.BytesIO()
    PillowImage.fromarray(PIXELS).save(stream, format="JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    (tmp_path / "a.jpg").write_bytes(stream.getvalue())
    assert read_size(tmp_path / "a.jpg") == read_image(tmp_path / "a.jpg").shape[:2] == (4, 6)


def test_a_size_before_rotation_is_refused_with_both_sizes(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", "JPEG", 6)
    refuse_other_size(path, (6, 4))
    with pytest.raises(DataError, match=r"is 4x6, but listed as 6x4, its size before EXIF orien"):
        refuse_other_size(path, (4, 6))
    with pytest.raises(DataError, match=r"is 4x6, but listed as 7x5; pipeline validate"):
        refuse_other_size(path, (5, 7))


def test_a_mask_of_the_photo_before_rotation_is_refused(tmp_path: Path) -> None:
    mask = photo(tmp_path / "mask.png", "PNG", 1)
    with pytest.raises(DataError, match=r"is 6x4 but its image a\.jpg is 4x6;.*has to be upright"):
        read_mask_values(mask, (6, 4), "a.jpg")


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_what_not_every_reader_turns_is_written_upright(tmp_path: Path, form: str) -> None:
    source = photo(tmp_path / f"a{SUFFIXES[form]}", form, 6, np.dstack([PIXELS] * 3))
    target = tmp_path / "set" / source.name
    place_image(source, target, copy=False)
    truth = shown(source)
    assert (shown(target) == truth).all()
    assert (np.asarray(PillowImage.open(target).convert("RGB")) == truth).all()  # without EXIF
    assert (np.asarray(cv2.imread(str(target)))[:, :, ::-1] == truth).all()
    assert shown(source).shape == (6, 4, 3)  # the source is as it was


def test_what_is_written_upright_keeps_its_16_bits(tmp_path: Path) -> None:
    tags = ImageFileDirectory_v2()
    tags[0x112] = 8
    deep = PIXELS.astype(np.uint16) * 257
    PillowImage.fromarray(deep).save(tmp_path / "a.tif", tiffinfo=tags)
    place_image(tmp_path / "a.tif", tmp_path / "b.tif", copy=False)
    written = np.asarray(cv2.imread(str(tmp_path / "b.tif"), cv2.IMREAD_UNCHANGED))
    assert (written == deep.T[::-1]).all()


@pytest.mark.parametrize("copy", [False, True])
def test_a_jpeg_keeps_its_exif_for_its_readers_turn_it(tmp_path: Path, copy: bool) -> None:
    from ultralytics.data.utils import exif_size
    from ultralytics.utils.patches import imread

    source = photo(tmp_path / "a.jpg", "JPEG", 6)
    target = tmp_path / "set" / "a.jpg"
    place_image(source, target, copy)
    assert target.samefile(source) is not copy
    assert target.read_bytes() == source.read_bytes()
    for read in (cv2.imread, imread):
        assert np.asarray(read(str(target))).shape == (6, 4, 3)
    with PillowImage.open(target) as image:
        assert exif_size(image) == (4, 6)


def test_a_run_counts_each_rotated_photo_once(tmp_path: Path) -> None:
    record = RunRecord("test", {})
    for number, orientation in enumerate((1, 6, 3)):
        path = photo(tmp_path / f"{number}.jpg", "JPEG", orientation)
        read_size(path)
        read_image(path)
    with record.whole_folder(tmp_path / "out") as folder:
        place_image(tmp_path / "1.jpg", folder / "1.jpg", copy=True)
        read_image(folder / "1.jpg")  # read back, not a photo of the source
        record.write(folder, {})
    assert read_run_file(tmp_path / "out").exif_rotated_read_upright == 2
