"""Which way up a photo is: the orientation that EXIF gives it, and its pixels turned by it.

A camera stores its pixels as its chip lies, and says by EXIF how to turn them. Browsers and
labelling tools show the photo upright, so this program reads it upright. Exif 3.0, tag 0x112.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.io.image_parts import NOTE_LIMIT, chunks_of, read_directory, segments_of

Kind = Literal["PNG", "JPEG", "BMP", "TIFF", "WEBP", "HEIF"]
_KEY_BYTES = 100  # first bytes of a PNG text that hold its key
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(="|>)([0-9])')
_ORIENTATION, _XMP_TAG = 0x112, 0x2BC
_ORIENTATIONS = range(1, 9)


def orientation(stream: IO[bytes], kind: Kind, path: Path) -> int:
    """The EXIF orientation of an image in [1, 8]; 1 where it has none, or one that is no number in
    that range, or EXIF that is broken. Raises DataError where XMP alone says that it is turned:
    browsers and OpenCV do not obey it, Pillow does."""
    try:
        value, xmp = _notes_of(stream, kind)
    except (ValueError, struct.error):
        return 1
    if value is None and (match := _XMP_ORIENTATION.search(xmp)):
        turned = int(match[2])
        if turned in _ORIENTATIONS and turned != 1:
            reason = f"has orientation {turned} in XMP but not in EXIF: tools disagree about it"
            raise DataError(path, reason, "rotate its pixels and save it without XMP")
    return value if value is not None and value in _ORIENTATIONS else 1


def upright(pixels: NDArray[Any], turned: int) -> NDArray[Any]:
    """Stored pixels (H, W, ...) as they are shown: (W, H, ...) for orientations of 5 and more."""
    if turned >= 5:
        pixels = pixels.swapaxes(0, 1)
    if turned in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if turned in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return pixels


def upright_size(height: int, width: int, turned: int) -> tuple[int, int]:
    """(height, width) of an image as it is shown."""
    return (width, height) if turned >= 5 else (height, width)


def tiff_as_stored(data: bytes) -> bytes:
    """A TIFF file with orientation 1. In some versions OpenCV's decoder turns a TIFF by
    its tag, whatever the flags are."""
    tags = read_directory(io.BytesIO(data))
    form, place = tags.place(_ORIENTATION)
    size = struct.calcsize(form)
    return b"".join((data[:place], struct.pack(form, 1), data[place + size :]))


def _notes_of(stream: IO[bytes], kind: Kind) -> tuple[int | None, bytes]:
    """The number that EXIF gives as orientation, and the text of XMP."""
    if kind == "TIFF":
        tags = read_directory(stream)
        return tags.number(_ORIENTATION), tags.text(_XMP_TAG)
    exif, xmp = _NOTES[kind](stream)
    while exif.startswith(_EXIF):
        exif = exif[len(_EXIF) :]
    value = read_directory(io.BytesIO(exif)).number(_ORIENTATION) if exif else None
    return value, xmp


def _png_notes(stream: IO[bytes]) -> tuple[bytes, bytes]:
    exif = profile = xmp = b""
    for kind, length in chunks_of(stream, 8, ">I4s", 4):
        if kind == b"eXIf":
            exif = stream.read(min(length, NOTE_LIMIT))
        elif kind in {b"tEXt", b"zTXt", b"iTXt"}:
            key, _, value = stream.read(min(length, _KEY_BYTES)).partition(b"\0")
            if key in {b"Raw profile type exif", b"XML:com.adobe.xmp"}:
                value += stream.read(min(length, NOTE_LIMIT) - len(key) - 1 - len(value))
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
        return zlib.decompressobj().decompress(value, NOTE_LIMIT) if packed else value
    except zlib.error as error:
        raise ValueError("a broken text") from error


def _jpeg_notes(stream: IO[bytes]) -> tuple[bytes, bytes]:
    exif = xmp = b""
    for marker, length in segments_of(stream):
        if marker != 0xE1:
            continue
        body = stream.read(length)
        if body.startswith(_EXIF) and len(exif) < NOTE_LIMIT:
            exif += body[len(_EXIF) :]
        elif body.startswith(_XMP):
            xmp = body[len(_XMP) :]
    return exif, xmp


def _webp_notes(stream: IO[bytes]) -> tuple[bytes, bytes]:
    exif = xmp = b""
    for kind, length in chunks_of(stream, 12, "<4sI", 0):
        if kind == b"EXIF":
            exif = stream.read(min(length, NOTE_LIMIT))
        elif kind == b"XMP ":
            xmp = stream.read(min(length, NOTE_LIMIT))
    return exif, xmp


_NOTES: dict[Kind, Callable[[IO[bytes]], tuple[bytes, bytes]]] = {
    "PNG": _png_notes, "JPEG": _jpeg_notes, "BMP": lambda _: (b"", b""), "WEBP": _webp_notes,
    "HEIF": lambda _: (b"", b""),  # its decoder turns it: EXIF only repeats the rotation
}  # fmt: skip
