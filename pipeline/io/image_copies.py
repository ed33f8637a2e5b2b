"""Photos in the folders that this program writes: every reader sees them upright."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.io.image_decode import decode, header_of, read_file
from pipeline.io.write import place_file, write_bytes

_SUFFIXES = {"jfif": "jpg", "jpe": "jpg", "heic": "png", "heif": "png"}
_LOSSLESS = 101  # OpenCV's quality for WebP without loss


def place_image(source: Path, target: Path, copy: bool) -> None:
    """Put a photo at `target`: a hard link, or a copy on request or where no link can be.

    A JPEG keeps its EXIF rotation, which ultralytics, OpenCV, browsers and labelling tools obey. Of
    another format not all of them do: what EXIF rotates is written upright, with the same pixels
    and without EXIF. A HEIC photo becomes a PNG. Raises DataError as `read_size` and `place_file`.
    """
    header = header_of(source)
    if header.kind != "HEIF" and (header.kind == "JPEG" or header.orientation == 1):
        place_file(source, target, copy)
        return
    pixels = decode(source, *read_file(source))
    kind = "PNG" if header.kind == "HEIF" else header.kind
    write_bytes(target, _encoded(pixels, kind, target))


def portable_name(name: str) -> str:
    """The name of a copy whose suffix every reader knows: training tools skip .jfif, and a HEIC
    photo is copied as PNG."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}{dot}{_SUFFIXES.get(suffix.lower(), suffix)}"


def _encoded(pixels: NDArray[Any], kind: str, path: Path) -> bytes:
    """Pixels, ordered as OpenCV orders them, as a file of a format that loses none."""
    import cv2

    options = [cv2.IMWRITE_WEBP_QUALITY, _LOSSLESS] if kind == "WEBP" else []
    done, data = cv2.imencode(f".{kind.lower()}", pixels, options)
    if not done:
        raise DataError(path, f"cannot be encoded as {kind}", "save the photo as PNG")
    return bytes(data.tobytes())
