"""Pictures, masks and heat maps that are no such thing, or claim to be huge."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as PillowImage
from png_bytes import SIGNATURE, chunk, png

from pipeline.errors import DataError, Faults
from pipeline.formats.mvtec import read_mvtec
from pipeline.io.images import list_images, read_image, read_size
from pipeline.io.mask_files import read_indices, read_mask, read_mask_values

READERS = (read_size, read_image, read_mask, read_indices)


def bmp(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<IIiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def jpeg(width: int, height: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes(9)
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xda\xff\xd9"


def tiff(width: int, height: int, tags: int = 0, claimed: int = 0) -> bytes:
    rows = [(256, 4, 1, width), (257, 4, 1, height)]
    rows += [(40_000 + number, 1, claimed, 8) for number in range(tags)]
    packed = b"".join(struct.pack("<HHLL", *row) for row in rows)
    return b"II*\0" + struct.pack("<LH", 8, len(rows)) + packed + bytes(4)


def webp(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x30\0\0\0WEBPVP8X" + struct.pack("<II", 10, 0) + sides


def saved(form: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    picture = PillowImage.linear_gradient("L").resize((8, 6)).convert(mode)
    picture.save(stream, format=form, **options)
    return stream.getvalue()


BROKEN = {
    "empty": b"",
    "one byte": b"\x89",
    "text": b"train/a.png\n" * 100,
    "signature alone": SIGNATURE,
    "no size": png(0, 0),
    "no height": png(5, 0),
    "half a header": png(2, 2)[:20],
    "a header of another checksum": png(2, 2).replace(b"\0\0\0\2\0\0\0\2", b"\0\0\0\2\0\0\0\3"),
    "a chunk of four gigabytes": SIGNATURE + b"\xff\xff\xff\xffIHDR" + bytes(50),
    "no frame": b"\xff\xd8\xff\xe0\0\2" * 2 + b"\xff\xd9",
    "segments without end": b"\xff\xd8" + b"\xff\xe0\0\2" * 300_000,
    "a segment of no length": b"\xff\xd8\xff\xe0\0\0",
    "tiff without tags": b"II*\0\x08\0\0\0\0\0",
    "tiff that points beyond its end": b"MM\0*\xff\xff\xff\xff",
    "big tiff that points beyond all": b"II+\0\x08\0\0\0" + b"\xff" * 8,
    "a thousand tags of the same bytes": tiff(8, 6, 1000, 10_000),
    "half a webp": b"RIFF\0\0\0\0WEBPVP8X",
    "half a bmp": b"BM" + bytes(14),
    "gif": saved("GIF", "P"),
    "postscript": saved("EPS"),
    "jpeg 2000": saved("JPEG2000"),
    "portable pixmap": saved("PPM"),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_picture_is_one_line(
    tmp_path: Path, reader: Callable[[Path], object], content: bytes
) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.png: is ") as error:
        reader(path)
    assert "\n" not in str(error.value)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [pipe, folder, device, link_to_itself])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, reader: Callable[[Path], object], make: Callable[[Path], None]
) -> None:
    make(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png"):
        reader(tmp_path / "b.png")


@pytest.mark.parametrize("build", [png, bmp, jpeg, tiff])
@pytest.mark.parametrize("reader", READERS)
def test_more_pixels_than_the_limit_are_refused_by_the_header(
    tmp_path: Path, reader: Callable[[Path], object], build: Callable[[int, int], bytes]
) -> None:
    (tmp_path / "a.png").write_bytes(build(50_000, 50_000))
    text = (
        "is 50000x50000 pixels, which takes 7.5 GB as RGB; the limit is 1073741824 pixels; "
        "cut it into parts"
    )
    with pytest.raises(DataError, match=text):
        reader(tmp_path / "a.png")


def test_a_canvas_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(webp(1 << 20, 1 << 20))
    with pytest.raises(DataError, match="1048576x1048576 pixels"):
        read_size(tmp_path / "a.webp")


@pytest.mark.parametrize("size", [(1, 1 << 30), (1 << 21, 2)])
def test_a_side_beyond_what_opencv_takes_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(png(*size))
    with pytest.raises(DataError, match="a side has at most 1048576"):
        read_size(tmp_path / "a.png")


def test_a_size_at_the_limit_is_a_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1 << 15, 1 << 15))
    assert read_size(tmp_path / "a.png") == (1 << 15, 1 << 15)


def test_a_mask_of_another_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """Its rows are missing: only the header is right."""
    (tmp_path / "a.png").write_bytes(png(30_000, 30_000, b""))
    with pytest.raises(DataError, match=r"is 30000x30000 but its image b\.png is 3x2; draw"):
        read_mask_values(tmp_path / "a.png", (2, 3), "b.png")


KINDS = [("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
KINDS += [("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")]
KINDS += [("JPEG", "L"), ("JPEG", "CMYK"), ("BMP", "1"), ("BMP", "P"), ("WEBP", "RGBA")]
KINDS += [("MPO", "RGB")]


@pytest.mark.parametrize(("form", "mode"), KINDS)
def test_every_kind_of_picture_is_read(tmp_path: Path, form: str, mode: str) -> None:
    path = tmp_path / "a.png"  # a name says nothing
    path.write_bytes(saved(form, mode))
    assert read_size(path) == (6, 8)
    assert read_image(path).shape == (6, 8, 3)
    assert read_mask(path).shape == read_indices(path).shape == (6, 8)


def test_a_float_picture_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(saved("TIFF", "F"))
    with pytest.raises(DataError, match="has pixels of type float32"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("cut", range(0, 400, 7))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_cut_or_changed_picture_is_read_or_one_line(tmp_path: Path, form: str, cut: int) -> None:
    content = saved(form)
    changed = bytearray(content)
    changed[cut % len(content)] ^= 0xFF
    for number, data in enumerate((content[: cut % len(content)], bytes(changed))):
        path = tmp_path / f"{number}.png"
        path.write_bytes(data)
        for reader in READERS:
            try:
                reader(path)
            except DataError as error:
                assert "\n" not in str(error)


def orientation_in(form: str, where: str) -> bytes:
    if where == "xmp":
        xmp = b'<x tiff:Orientation="6"/>'
        if form == "PNG":
            return png(8, 6, extra=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
        return saved(form, xmp=xmp)
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    if where == "profile":
        text = b"\nexif\n  99\n" + exif.tobytes().hex().encode()
        return png(8, 6, extra=chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
    return saved(form, exif=exif)


@pytest.mark.parametrize(
    ("form", "where"),
    [("PNG", "exif"), ("PNG", "profile"), ("JPEG", "exif"), ("TIFF", "exif"), ("WEBP", "exif")],
)
def test_an_orientation_is_found_wherever_it_is_kept(tmp_path: Path, form: str, where: str) -> None:
    (tmp_path / "a.png").write_bytes(orientation_in(form, where))
    assert read_size(tmp_path / "a.png") == (8, 6)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_an_orientation_in_xmp_alone_is_refused_for_tools_disagree(
    tmp_path: Path, form: str
) -> None:
    (tmp_path / "a.png").write_bytes(orientation_in(form, "xmp"))
    for reader in READERS:
        with pytest.raises(DataError, match="orientation 6 in XMP but not in EXIF"):
            reader(tmp_path / "a.png")


def test_a_folder_that_cannot_be_listed_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list_images(tmp_path / "none")


def test_every_bad_picture_of_a_set_is_passed_over(
    make_product: Callable[..., Path], tmp_path: Path
) -> None:
    product = make_product()
    whole = len(read_mvtec([product], Faults()).records)
    good = product / "train" / "good"
    os.mkfifo(good / "fifo.png")
    (good / "folder.png").mkdir()
    for number, content in enumerate((b"", png(50_000, 50_000), tiff(8, 6, 1000, 10_000))):
        (good / f"bad{number}.png").write_bytes(content)
    faults = Faults(keep_going=True)
    assert len(read_mvtec([product], faults).records) == whole
    assert len(faults.errors) == 5
