"""The bytes of an image file, checked and decoded by OpenCV."""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.io import heif
from pipeline.io.bmp import read_packed
from pipeline.io.exif import tiff_as_stored, upright
from pipeline.io.image_header import Header, read_header
from pipeline.io.image_parts import has_damaged_chunk, segments_of
from pipeline.io.read import open_regular
from pipeline.io.rotated_photos import note_rotated
from pipeline.io.tiff import by_pillow, has_grey_and_alpha, without_unused

_BYTES_AT_WORK = 6  # of a pixel: as decoded, and as RGB
_TAIL = 4096  # bytes that may follow the end mark, such as a camera's notes
_END_MARKS = {b"\x89P": b"IEND\xaeB`\x82", b"\xff\xd8": b"\xff\xd9"}  # PNG, JPEG
_UNREADABLE = "is not a readable image (broken or empty)"
_BROKEN = "copy it again from its source, or leave it out with --keep-going"
_MOST_BYTES, _BYTES_OF_A_PIXEL = 1 << 28, 16  # of a file
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # of a JPEG, not one of its pixels
_SCAN, _MOST_SCANS = b"\xff\xda", 100  # of a JPEG; encoders make about ten


def header_of(path: Path) -> Header:
    """The header of an image file that is whole. Raises DataError."""
    with open_regular(path) as stream, decoding(path):
        header = _noted(stream, path)
        stream.seek(0)
        head = stream.read(2)
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
        if not _ends(head, stream.read(_TAIL)):
            stream.seek(0)
            _refuse_truncated(path, stream.read(_MOST_BYTES))
    return header


def read_file(path: Path) -> tuple[Header, bytes]:
    """Header and bytes of an image file. Raises DataError, also for far more bytes than its pixels
    need."""
    with open_regular(path) as stream, decoding(path):
        header = _noted(stream, path)
        size = os.fstat(stream.fileno()).st_size
        if size > _MOST_BYTES + header.height * header.width * _BYTES_OF_A_PIXEL:
            raise DataError(path, f"has {size} bytes, too many for its picture", "save it again")
        stream.seek(0)
        data = stream.read()
    if header.kind == "JPEG" and data.count(_SCAN) > _MOST_SCANS:  # each goes over every pixel
        raise DataError(path, f"has more than {_MOST_SCANS} scans", "save it again")
    return header, data


def decode(path: Path, header: Header, data: bytes) -> NDArray[Any]:
    """The upright pixels (H, W) or (H, W, C) of an image file, as OpenCV orders and stores them.
    Raises DataError."""
    import cv2

    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the DataError says it
    with decoding(path, header):
        if header.kind == "HEIF":
            return heif.decode(data, path)
        if header.kind == "PNG" and has_damaged_chunk(data):  # libpng would print a line of its own
            raise DataError(path, _UNREADABLE, _BROKEN)
        if header.kind == "TIFF" and header.orientation != 1:
            data = tiff_as_stored(data)
        pixels = _by_others(header, data)
        if pixels is None:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if header.kind == "TIFF":
            stored = header.height, header.width
            pixels = by_pillow(data, stored) if pixels is None else without_unused(pixels, data)
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        remedy = _BROKEN if header.kind in {"PNG", "JPEG"} else f"save it as PNG, {_BROKEN}"
        raise DataError(path, _UNREADABLE, remedy)
    if not _ends(data[:2], data[-_TAIL:]):
        _refuse_truncated(path, data)
    return upright(np.asarray(pixels), header.orientation)


def _by_others(header: Header, data: bytes) -> NDArray[Any] | None:
    """The pixels of a file that OpenCV reads wrong; None for another."""
    if header.kind == "BMP":
        return read_packed(data)
    stored = header.height, header.width
    return by_pillow(data, stored) if header.kind == "TIFF" and has_grey_and_alpha(data) else None


@contextmanager
def decoding(path: Path, header: Header | None = None) -> Iterator[None]:
    """Turn every exception of a decoder within the block into a DataError about the file. header:
    of a file whose pixels are decoded."""
    import cv2

    try:
        yield
    except DataError:
        raise
    except Exception as error:
        full = isinstance(error, MemoryError) or getattr(error, "code", 0) == cv2.Error.StsNoMem
        if full:
            reason = "takes more memory than there is"
            if header is not None:
                need = header.height * header.width * _BYTES_AT_WORK / 1e9
                reason = f"is {header.width}x{header.height} pixels: at {need:,.1f} GB it {reason}"
            raise DataError(path, reason, "cut it into parts") from error
        raise DataError(path, _UNREADABLE, _BROKEN) from error


def _noted(stream: IO[bytes], path: Path) -> Header:
    header = read_header(stream, path)
    if header.orientation != 1:
        note_rotated(path, stream)
    return header


def _ends(head: bytes, tail: bytes) -> bool:
    """Whether a file of this kind has its end mark, where it has one at all."""
    end = _END_MARKS.get(head)
    return end is None or end in tail


def _refuse_truncated(path: Path, data: bytes) -> None:
    """Decoders fill missing pixels with grey without an error, so look for the end mark. A phone
    appends the film of a motion photo, or a second picture, behind that of the first one."""
    if data[:2] != b"\xff\xd8" or not _has_end(data):
        raise DataError(path, "is truncated: its end is missing", _BROKEN)


def _has_end(data: bytes) -> bool:
    """Whether the scans of a JPEG, from the first on, come to its end mark."""
    stream = io.BytesIO(data)
    try:
        for _ in segments_of(stream):
            pass
    except (ValueError, struct.error):
        return False
    at = stream.tell() - 2  # at the first scan
    while match := _MARKER.search(data, at):
        if match[0] == b"\xff\xd9":
            return True
        at = match.start() + 2 + int.from_bytes(data[match.start() + 2 : match.start() + 4], "big")
    return False
