from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from pipeline.errors import DataError
from pipeline.io.image_copies import place_image
from pipeline.io.images import images_below, read_image, read_size
from pipeline.runtime.progress import set_quiet


def jpeg(**options: object) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    PillowImage.fromarray(noise).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_motion_photo_is_read_without_its_film(tmp_path: Path, progressive: bool) -> None:
    whole = jpeg(progressive=progressive)
    film = b"\0\0\0\x18ftypmp42" + bytes(10_000)  # longer than what is searched for the end mark
    (tmp_path / "a.jpg").write_bytes(whole)
    (tmp_path / "b.jpg").write_bytes(whole + film)
    assert read_size(tmp_path / "b.jpg") == (48, 64)
    assert (read_image(tmp_path / "b.jpg") == read_image(tmp_path / "a.jpg")).all()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_is_cut_off_is_refused(tmp_path: Path, progressive: bool) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(progressive=progressive)[:-500])
    for read, reason in (  # the decoder sees it first where pixels are read
        (read_size, "is truncated: its end is missing"),
        (read_image, "is not a readable image (broken or empty)"),
    ):
        with pytest.raises(DataError) as caught:
            read(tmp_path / "a.jpg")
        assert caught.value.reason == reason


def test_heic_without_its_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # an import of it fails
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    for read in (read_size, read_image):
        with pytest.raises(DataError) as caught:
            read(tmp_path / "a.heic")
        assert caught.value.reason == "is a HEIC photo, for which pillow-heif is needed"
        assert "pip install 'defect-pipeline[heic]'" in caught.value.remedy


def test_a_broken_heic_photo_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(DataError, match="is not a readable image"):
        read_size(tmp_path / "a.heic")


def test_heic_is_read_and_copied_as_png(tmp_path: Path) -> None:
    library = pytest.importorskip("pillow_heif")
    pixels = np.full((48, 64, 3), (200, 30, 10), np.uint8)
    library.from_pillow(PillowImage.fromarray(pixels)).save(tmp_path / "a.heic", quality=95)
    assert read_size(tmp_path / "a.heic") == (48, 64)
    place_image(tmp_path / "a.heic", tmp_path / "a.png", copy=True)
    for name in ("a.heic", "a.png"):
        assert np.abs(read_image(tmp_path / name).astype(int) - pixels).max() <= 8


def test_pictures_of_other_formats_are_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_quiet(False)
    for name in ("a.jfif", "b.gif", "c.CR2"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in images_below(tmp_path)] == ["a.jfif"]
    images_below(tmp_path)
    text = capsys.readouterr().err
    assert text.count("2 pictures left out, as their format is not read: b.gif, c.CR2") == 1
