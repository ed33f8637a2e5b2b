"""HEIC photos of phones, by pillow-heif: the extra `heic`."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"})
SUFFIXES = frozenset({".heic", ".heif"})


def read_size(stream: IO[bytes], path: Path) -> tuple[int, int]:
    """(height, width) of the upright photo. Raises DataError without the extra."""
    stream.seek(0)
    width, height = _library(path).open_heif(stream).size
    return height, width


def decode(data: bytes, path: Path) -> NDArray[Any]:
    """The upright pixels (H, W, 3 or 4) uint8, ordered as OpenCV orders them."""
    photo = _library(path).open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    pixels = np.asarray(photo)
    order = [2, 1, 0, 3][: pixels.shape[2]]
    return np.ascontiguousarray(pixels[:, :, order])


def _library(path: Path) -> ModuleType:
    try:
        import pillow_heif
    except ImportError:
        reason = "is a HEIC photo, for which pillow-heif is needed"
        remedy = "pip install 'defect-pipeline[heic]', or save it as JPEG"
        raise DataError(path, reason, remedy) from None
    library: ModuleType = pillow_heif
    return library
