"""Format, size and orientation of an image file, without decoding a pixel.

Decoders trust the numbers in a file. This module reads them first, so that a bad file is refused
before it reaches a decoder. PNG: ISO/IEC 15948; JPEG: ITU-T T.81, annex B; TIFF 6.0 and Exif 3.0;
BMP: Windows' BITMAPINFOHEADER; WebP: RFC 9649.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from pipeline.errors import DataError

Kind = Literal["PNG", "JPEG", "BMP", "TIFF", "WEBP"]

PIXEL_LIMIT, SIDE_LIMIT = 1 << 30, 1 << 20  # OpenCV's own
KINDS = "PNG, JPEG, BMP, TIFF or WebP"
_MAX_CHUNKS = 1 << 18  # chunks of a file, and bytes of junk between them: more would take minutes
_NOTE_LIMIT = 1 << 20  # bytes of EXIF or XMP
_KEY_BYTES = 100  # first bytes of a PNG text that hold its key
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(="|>)([0-9])')
_WIDTH, _HEIGHT, _ORIENTATION, _XMP_TAG = 0x100, 0x101, 0x112, 0x2BC
_NUMBERS = {1: "B", 3: "H", 4: "L", 16: "Q"}
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that carry the size
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a body


@dataclass(frozen=True)
class Header:
    """Format of an image file and its size in pixels."""

    kind: Kind
    height: int
    width: int


def read_header(stream: IO[bytes], path: Path) -> Header:
    """The header of an image file. Raises DataError for more pixels than `PIXEL_LIMIT` or a side of
    more than `SIDE_LIMIT`, another exception for another format or a broken file."""
    kind = _kind_of(stream.read(16))
    height, width = _SIZES[kind](stream)
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
    return Header(kind, height, width)


def orientation(stream: IO[bytes], kind: Kind) -> int:
    """The EXIF orientation of an image in [1, 8], or else that of its XMP; 1 if it has neither.
    Raises ValueError or struct.error for broken EXIF."""
    if kind == "TIFF":
        tags = _directory(stream)
        value, xmp = tags.number(_ORIENTATION), tags.text(_XMP_TAG)
    else:
        exif, xmp = _NOTES[kind](stream)
        while exif.startswith(_EXIF):
            exif = exif[len(_EXIF) :]
        value = _directory(io.BytesIO(exif)).number(_ORIENTATION) if exif else None
    if value is None and (match := _XMP_ORIENTATION.search(xmp)):
        value = int(match[2])
    return 1 if value is None else value


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
    raise ValueError(f"not {KINDS}")


def _png_size(stream: IO[bytes]) -> tuple[int, int]:
    stream.seek(8)
    length, body, crc = struct.unpack(">I17sI", stream.read(25))
    if length != 13 or not body.startswith(b"IHDR") or zlib.crc32(body) != crc:
        raise ValueError("no header")
    width, height = struct.unpack_from(">II", body, 4)
    return height, width


def _jpeg_size(stream: IO[bytes]) -> tuple[int, int]:
    for marker, _ in _segments(stream):
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
    tags = _directory(stream)
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


def _png_notes(stream: IO[bytes]) -> tuple[bytes, bytes]:
    exif = profile = xmp = b""
    for kind, length in _chunks(stream, 8, ">I4s", 4):
        if kind == b"eXIf":
            exif = stream.read(min(length, _NOTE_LIMIT))
        elif kind in {b"tEXt", b"zTXt", b"iTXt"}:
            key, _, value = stream.read(min(length, _KEY_BYTES)).partition(b"\0")
            if key in {b"Raw profile type exif", b"XML:com.adobe.xmp"}:
                value += stream.read(min(length, _NOTE_LIMIT) - len(key) - 1 - len(value))
                text = _text(kind, value)
                profile, xmp = (text, xmp) if key.startswith(b"Raw") else (profile, text)
    if not exif and profile:
        exif = bytes.fromhex(b"".join(profile.split(b"\n")[3:]).decode("latin-1"))
    return exif, xmp


def _text(kind: bytes, value: bytes) -> bytes:
    """The text of a PNG's tEXt, zTXt or iTXt chunk, without its key."""
    packed = kind == b"zTXt"
    if packed:
        value = value[1:]
    elif kind == b"iTXt":
        packed, value = value[:1] == b"\1", value[2:].split(b"\0", 2)[-1]
    try:
        return zlib.decompressobj().decompress(value, _NOTE_LIMIT) if packed else value
    except zlib.error as error:
        raise ValueError("a broken text") from error


def _jpeg_notes(stream: IO[bytes]) -> tuple[bytes, bytes]:
    exif = xmp = b""
    for marker, length in _segments(stream):
        if marker != 0xE1:
            continue
        body = stream.read(length)
        if body.startswith(_EXIF) and len(exif) < _NOTE_LIMIT:
            exif += body[len(_EXIF) :]
        elif body.startswith(_XMP):
            xmp = body[len(_XMP) :]
    return exif, xmp


def _webp_notes(stream: IO[bytes]) -> tuple[bytes, bytes]:
    exif = xmp = b""
    for kind, length in _chunks(stream, 12, "<4sI", 0):
        if kind == b"EXIF":
            exif = stream.read(min(length, _NOTE_LIMIT))
        elif kind == b"XMP ":
            xmp = stream.read(min(length, _NOTE_LIMIT))
    return exif, xmp


_NOTES: dict[Kind, Callable[[IO[bytes]], tuple[bytes, bytes]]] = {
    "PNG": _png_notes, "JPEG": _jpeg_notes, "BMP": lambda _: (b"", b""), "WEBP": _webp_notes,
}  # fmt: skip


def _chunks(stream: IO[bytes], at: int, form: str, after: int) -> Iterator[tuple[bytes, int]]:
    """Type and length of each chunk of a PNG or RIFF file, from `at` on. The stream is then at the
    body of the chunk; `after` bytes follow the body."""
    for _ in range(_MAX_CHUNKS):
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            return
        first, second = struct.unpack(form, head)
        kind, length = (first, second) if isinstance(first, bytes) else (second, first)
        yield kind, length
        at += 8 + length + (after or length % 2)


def _segments(stream: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Marker and length of each segment of a JPEG before its first scan. The stream is then at the
    body of the segment."""
    stream.seek(2)
    before = 0
    for _ in range(_MAX_CHUNKS):
        byte = stream.read(1)
        if not byte:
            return
        if before != 0xFF or byte[0] in {0x00, 0xFF}:  # junk or padding
            before = byte[0]
            continue
        before = 0
        if byte[0] in {0xD9, 0xDA}:
            return
        if byte[0] not in _BARE:
            length = struct.unpack(">H", stream.read(2))[0] - 2
            if length < 0:
                raise ValueError("a segment of no length")
            start = stream.tell()
            yield byte[0], length
            stream.seek(start + length)


@dataclass(frozen=True)
class _Directory:
    """First directory of a TIFF. tags: type, count and position of the value of each tag. claimed:
    bytes of all values that lie outside the directory."""

    stream: IO[bytes]
    order: str
    tags: dict[int, tuple[int, int, int]]
    claimed: int

    def number(self, tag: int) -> int | None:
        """The value of a tag that is one whole number."""
        kind, count, place = self.tags.get(tag, (0, 0, 0))
        if kind not in _NUMBERS or count != 1:
            return None
        self.stream.seek(place)
        form = self.order + _NUMBERS[kind]
        value: int = struct.unpack(form, self.stream.read(_UNITS[kind]))[0]
        return value

    def text(self, tag: int) -> bytes:
        """The bytes of a tag, at most `_NOTE_LIMIT` of them."""
        kind, count, place = self.tags.get(tag, (0, 0, 0))
        self.stream.seek(place)
        return self.stream.read(min(count * _UNITS.get(kind, 0), _NOTE_LIMIT))


def _directory(stream: IO[bytes]) -> _Directory:
    stream.seek(0)
    head = stream.read(16)
    if head[:2] not in {b"II", b"MM"}:
        raise ValueError("not TIFF")
    order = "<" if head.startswith(b"II") else ">"
    big = 43 in head[2:4]
    pointer, count, entry = ("Q", "Q", "HHQ8s") if big else ("L", "H", "HHL4s")
    inline, start = (8, 8) if big else (4, 4)
    stream.seek(struct.unpack_from(order + pointer, head, start)[0])
    number = struct.unpack(order + count, stream.read(struct.calcsize(order + count)))[0]
    size, tags, claimed = struct.calcsize(order + entry), {}, 0
    for _ in range(min(number, 65535)):
        at = stream.tell()
        row = stream.read(size)
        if len(row) < size:
            break
        tag, kind, values, place = struct.unpack(order + entry, row)
        length = values * _UNITS.get(kind, 0)
        if length > inline:
            claimed += length
            tags[tag] = kind, values, struct.unpack(order + pointer, place)[0]
        else:
            tags[tag] = kind, values, at + size - inline
    return _Directory(stream, order, tags, claimed)
