"""TIFF files that OpenCV reads wrong or not at all: pages, channels that are no colour, and tiles
of grey values."""

from __future__ import annotations

import io
import logging
import struct
import warnings
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.image_parts import Directory, read_directory

_WIDTH, _HEIGHT, _SUBFILE, _SAMPLES, _EXTRA = 256, 257, 254, 277, 338
_COMPRESSION, _JPEGS = 259, {6, 7, 34892}
_NOT_A_PAGE = 0b101  # a smaller version of another page, or its transparency
_MOST_PAGES = 100
_PLAIN = {"L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16B", "I;16L"}  # Pillow's modes


def pages_of_one_size(stream: IO[bytes]) -> int:
    """How many pages of a file have the size of its first one: 1 for a photo with thumbnails.
    Raises ValueError or struct.error."""
    first = tags = read_directory(stream)
    count = 1
    seen: set[int] = set()
    while tags.following and tags.following not in seen and len(seen) < _MOST_PAGES:
        seen.add(tags.following)
        try:
            tags = read_directory(stream, tags.following)
        except (ValueError, struct.error):
            break
        is_page = not (tags.number(_SUBFILE) or 0) & _NOT_A_PAGE
        count += is_page and _size(tags) == _size(first)
    return count


def _size(tags: Directory) -> tuple[int | None, int | None]:
    return tags.number(_HEIGHT), tags.number(_WIDTH)


def is_jpeg_inside(stream: IO[bytes]) -> bool:
    """Whether the pixels of a TIFF are packed as JPEG."""
    return read_directory(stream).number(_COMPRESSION) in _JPEGS


def by_pillow(data: bytes, size: tuple[int, int]) -> NDArray[Any] | None:
    """The first page (H, W) or (H, W, C) in OpenCV's order; None where Pillow cannot read it, or
    takes it for another size (height, width)."""
    from PIL.TiffImagePlugin import TiffImageFile

    silence_pillow()
    try:
        with warnings.catch_warnings(action="ignore"), TiffImageFile(io.BytesIO(data)) as image:
            if image.size != size[::-1]:
                return None
            plain = image if image.mode in _PLAIN else image.convert(_plain_mode(image.mode))
            pixels = np.asarray(plain)
    except Exception:  # any error of a decoder
        return None
    return pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]] if _is_colour(pixels) else pixels


def silence_pillow() -> None:
    """Keep Pillow from writing lines of its own: the DataError says what is wrong."""
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)


def _plain_mode(mode: str) -> str:
    return "L" if mode == "1" else "RGBA" if mode in {"PA", "RGBa", "La"} else "RGB"


def _is_colour(pixels: NDArray[Any]) -> bool:
    return pixels.ndim == 3 and pixels.shape[2] > 2


def has_grey_and_alpha(data: bytes) -> bool:
    """Whether a TIFF has two channels: OpenCV drops the second, which tells what is transparent."""
    return read_directory(io.BytesIO(data)).number(_SAMPLES) == 2


def without_unused(pixels: NDArray[Any], data: bytes) -> NDArray[Any]:
    """The pixels (H, W, 4) without a fourth channel that the file does not call alpha and that is
    empty: OpenCV takes it for alpha, and all would be transparent."""
    if pixels.ndim < 3 or pixels.shape[2] != 4 or pixels[:, :, 3].any():
        return pixels
    is_alpha = read_directory(io.BytesIO(data)).number(_EXTRA)
    return pixels if is_alpha else np.ascontiguousarray(pixels[:, :, :3])
