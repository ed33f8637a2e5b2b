"""Format, size and orientation of an image file, without decoding a pixel.

Decoders trust the numbers in a file. This module reads them first, so that a bad file is refused
before it reaches a decoder. BMP: Windows' BITMAPINFOHEADER; see `image_parts` for the others.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.errors import DataError
from pipeline.io import heif
from pipeline.io.exif import Kind, orientation, upright_size
from pipeline.io.image_parts import read_directory, segments_of
from pipeline.io.tiff import pages_of_one_size

PIXEL_LIMIT, SIDE_LIMIT = 1 << 30, 1 << 20  # OpenCV's own
KINDS = "PNG, JPEG, BMP, TIFF, WebP or HEIC"
_WIDTH, _HEIGHT = 0x100, 0x101
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that carry the size
_OTHERS = {  # by what their files begin with
    b"GIF8": "GIF", b"8BPS": "PSD", b"%PDF": "PDF", b"v/1\1": "OpenEXR", b"<svg": "SVG",
    b"<?xm": "XML or SVG", b"\0\0\1\0": "ICO", b"#?RA": "Radiance HDR", b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL", b"\0\0\0\x0cjP  ": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000",
    **{b"P%d%c" % (kind, end): "PNM" for kind in range(1, 7) for end in b" \n\r\t"},
}  # fmt: skip
_OTHER_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": "CR3"}
_AS_PNG = "save it as PNG"


@dataclass(frozen=True)
class Header:
    """Format of an image file, its size in pixels as they are stored, and its EXIF orientation in
    [1, 8]."""

    kind: Kind
    height: int
    width: int
    orientation: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright image."""
        return upright_size(self.height, self.width, self.orientation)


def read_header(stream: IO[bytes], path: Path) -> Header:
    """The header of an image file. Raises DataError for more pixels than `PIXEL_LIMIT`, a side of
    more than `SIDE_LIMIT`, and as `exif.orientation`; another exception for another format or a
    broken file."""
    start = stream.read(32)
    _refuse_other_format(start, path)
    kind = _kind_of(start)
    height, width = heif.read_size(stream, path) if kind == "HEIF" else _SIZES[kind](stream)
    if kind == "TIFF" and (pages := pages_of_one_size(stream)) > 1:
        reason = f"has {pages} pages of one size (TIFF), of which one photo would be read"
        raise DataError(path, reason, "save each that is meant as a file")
    if height < 1 or width < 1:
        raise ValueError("a picture without pixels")
    if max(height, width) > SIDE_LIMIT:
        reason = f"is {width}x{height} pixels; a side has at most {SIDE_LIMIT}"
        raise DataError(path, reason, "cut it into parts")
    if height * width > PIXEL_LIMIT:
        raise DataError(
            path,
            f"is {width}x{height} pixels, which takes {height * width * 3 / 1e9:,.1f} GB as RGB; "
            f"the limit is {PIXEL_LIMIT} pixels",
            "cut it into parts",
        )
    return Header(kind, height, width, orientation(stream, kind, path))


def _refuse_other_format(start: bytes, path: Path) -> None:
    name = next((name for mark, name in _OTHERS.items() if start.startswith(mark)), "")
    if start[4:8] == b"ftyp":
        name = _OTHER_BRANDS.get(start[8:12], "")
    if name:
        article = "an" if name[0] in "AIOX" else "a"
        raise DataError(path, f"is {article} {name} file, not {KINDS}", _AS_PNG)
    if start.startswith(b"RIFF") and start[8:16] == b"WEBPVP8X" and start[20:21] and start[20] & 2:
        raise DataError(path, "is an animation (WebP)", "save the frame that is meant as PNG")


def _kind_of(start: bytes) -> Kind:
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if start.startswith(b"BM"):
        return "BMP"
    if start[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return "TIFF"
    if start.startswith(b"RIFF") and start[8:15] == b"WEBPVP8":
        return "WEBP"
    if start[4:8] == b"ftyp" and start[8:12] in heif.BRANDS:
        return "HEIF"
    raise ValueError(f"not {KINDS}")


def _png_size(stream: IO[bytes]) -> tuple[int, int]:
    stream.seek(8)
    length, body, crc = struct.unpack(">I17sI", stream.read(25))
    if length != 13 or not body.startswith(b"IHDR") or zlib.crc32(body) != crc:
        raise ValueError("no header")
    width, height = struct.unpack_from(">II", body, 4)
    return height, width


def _jpeg_size(stream: IO[bytes]) -> tuple[int, int]:
    for marker, _ in segments_of(stream):
        if marker in _FRAMES:
            height, width = struct.unpack(">xHH", stream.read(5))
            return height, width
    raise ValueError("no frame")


def _bmp_size(stream: IO[bytes]) -> tuple[int, int]:
    stream.seek(14)
    if struct.unpack("<I", stream.read(4))[0] == 12:  # OS/2
        width, height = struct.unpack("<HH", stream.read(4))
    else:
        width, height = struct.unpack("<Ii", stream.read(8))
    return abs(height), width  # negative: its first row is the topmost


def _tiff_size(stream: IO[bytes]) -> tuple[int, int]:
    tags = read_directory(stream)
    size = stream.seek(0, io.SEEK_END)
    if tags.claimed > size:  # the same bytes for each of its tags: decoders would keep all copies
        raise ValueError("tags of more bytes than the file has")
    return tags.number(_HEIGHT) or 0, tags.number(_WIDTH) or 0


def _webp_size(stream: IO[bytes]) -> tuple[int, int]:
    stream.seek(12)
    head = stream.read(18)
    if len(head) < 18:
        raise ValueError("no frame")
    if head.startswith(b"VP8X"):
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (12, 15))
    elif head.startswith(b"VP8L"):
        bits = struct.unpack_from("<I", head, 9)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", head, 14))
    return height, width


_SIZES: dict[Kind, Callable[[IO[bytes]], tuple[int, int]]] = {
    "PNG": _png_size, "JPEG": _jpeg_size, "BMP": _bmp_size, "TIFF": _tiff_size, "WEBP": _webp_size,
}  # fmt: skip
