"""Pixels from files. Images are HWC uint8 RGB; masks are (H, W) bool. Both are read upright."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.io import heif
from pipeline.io.image_decode import decode, decoding, header_of, read_file
from pipeline.io.read import files_below, is_junk
from pipeline.io.write import whole_file
from pipeline.runtime.progress import say

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SUFFIXES = heif.SUFFIXES | {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp"
}  # fmt: skip
_OTHERS = {".gif", ".avif", ".jp2", ".jxl", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".psd"}
_said: set[Path] = set()  # folders whose other pictures were named
_EIGHT_BITS = (np.arange(1 << 16) / 257.0 + 0.5).astype(np.uint8)


def read_image(path: Path) -> Image:
    """Read an image as (H, W, 3) uint8 RGB in [0, 255], upright.

    A photo that EXIF rotates is turned, as browsers and labelling tools show it. 16-bit images are
    scaled from [0, 65535] to [0, 255]; grey is repeated in three channels; alpha is dropped. Raises
    DataError for other formats than PNG, JPEG, BMP, TIFF, WebP and HEIC, and for files that are
    broken or too large.
    """
    header, data = read_file(path)
    raw = decode(path, header, data)
    with decoding(path):
        if raw.dtype == np.uint16:
            raw = _EIGHT_BITS[raw]
        elif raw.dtype != np.uint8:
            raise DataError(path, f"has pixels of type {raw.dtype}", "save it with 8 or 16 bits")
        if raw.ndim == 3 and raw.shape[2] == 2:
            raw = raw[:, :, 0]  # grey and alpha
        if raw.ndim == 2:
            return np.repeat(raw[:, :, None], 3, axis=2)
        return np.ascontiguousarray(raw[:, :, 2::-1])


def read_listed_image(path: Path, listed: tuple[int, int]) -> Image:
    """As `read_image`. Raises DataError for an image of another size than the listed
    (height, width) too."""
    image = read_image(path)
    if image.shape[:2] != listed:
        refuse_other_size(path, listed)
    return image


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright image, without decoding. Raises DataError for broken and
    oversized files."""
    return header_of(path).size


def refuse_other_size(path: Path, listed: tuple[int, int]) -> None:
    """Raise DataError for an image whose upright size is not the listed (height, width)."""
    header = header_of(path)
    if header.size == listed:
        return
    reason = f"is {header.size[1]}x{header.size[0]}, but listed as {listed[1]}x{listed[0]}"
    remedy = "pipeline validate names all such faults"
    if listed == (header.height, header.width):
        reason += f", its size before EXIF orientation {header.orientation} turns it upright"
        remedy = "export its labels from a tool that shows it upright, or remove its EXIF"
    raise DataError(path, reason, remedy)


def write_png(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write (H, W) grey or (H, W, 3) RGB pixels as PNG, whole or not at all."""
    import cv2

    stored = pixels[:, :, ::-1] if pixels.ndim == 3 else pixels
    done, data = cv2.imencode(".png", stored)
    if not done:
        raise DataError(path, "cannot be encoded as PNG", "report this with the image's shape")
    with whole_file(path) as temporary:
        temporary.write_bytes(data.tobytes())


def write_indexed_png(
    path: Path, values: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]
) -> None:
    """Write (H, W) values as PNG with the colour of each value in [0, 255], whole or not at all."""
    from PIL import Image as PillowImage

    picture = PillowImage.fromarray(values)  # 8-bit grey, which a palette turns into indices
    picture.putpalette([channel for colour in palette for channel in colour])
    with whole_file(path) as temporary:
        picture.save(temporary, format="PNG")


def list_images(folder: Path) -> list[Path]:
    """The image files directly in `folder`, sorted by name. Hidden files are left out. Raises
    DataError for a folder that cannot be read."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(folder, f"cannot be read ({error.strerror})", "check it") from error
    own = [path for path in paths if not is_junk(path.name)]
    _say_others(folder, own)
    return [path for path in own if path.suffix.lower() in SUFFIXES]


def images_below(folder: Path) -> list[Path]:
    """The image files in `folder` and the folders in it, sorted; as `files_below`, without
    folders that a command of this pipeline wrote."""
    paths, others = [], []
    for path in map(Path, files_below(folder)):
        if (suffix := path.suffix.lower()) in SUFFIXES:
            paths.append(path)
        elif suffix in _OTHERS:
            others.append(path)
    _say_others(folder, others)
    return sorted(paths)


def _say_others(folder: Path, paths: Sequence[Path]) -> None:
    """Name pictures of formats that are not read, once for each folder."""
    others = [path.name for path in paths if path.suffix.lower() in _OTHERS]
    if others and folder not in _said:
        _said.add(folder)
        names = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        say(f"{folder}: {len(others)} pictures left out, as their format is not read: {names}")
