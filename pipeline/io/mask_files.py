"""Mask files: where the masks of an image come from, and the values of their pixels, upright."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.io.exif import tiff_as_stored, upright
from pipeline.io.image_decode import decode, decoding, read_file
from pipeline.io.image_header import Header
from pipeline.io.image_parts import chunks_of
from pipeline.io.png import read_grey
from pipeline.io.read import open_regular
from pipeline.io.tiff import is_jpeg_inside, silence_pillow

Mask = NDArray[np.bool_]
COLOUR = 1 << 24  # is added to 0xRRGGBB: a colour without red is no grey value of 16 bits
_TIFFS = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
_JPEG = b"\xff\xd8\xff"
_PNG_PALETTE = 3  # the colour type in byte 25


@dataclass(frozen=True, slots=True)
class MaskSource:
    """One mask of an image: a file of pixels, or runs of pixels in a table.

    path: the file, or the table. category: of every pixel above the threshold. is_whole: they are
    one instance, however many parts they have. values: of a label map the category of each value,
    and `category` is "". is_numbered: each value of the file is one instance of `category`. runs:
    start and length of each run, column by column, the first pixel is 1. table: the file that names
    the values; None where the user does. threshold: where the user gives none.
    """

    path: Path
    category: str = ""
    is_whole: bool = False
    values: tuple[tuple[int, str], ...] = ()
    is_numbered: bool = False
    runs: str = ""
    table: Path | None = None
    threshold: int = 0


def is_lossy(path: Path) -> bool:
    """Whether a mask file is JPEG, or a TIFF or WebP packed like one, which changes values. Raises
    DataError."""
    with open_regular(path) as stream, decoding(path):
        start = stream.read(16)
        if start[:4] in _TIFFS:
            return is_jpeg_inside(stream)
        if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
            return any(kind == b"VP8 " for kind, _ in chunks_of(stream, 12, "<4sI", 0))
        return start.startswith(_JPEG)


def read_mask(path: Path, threshold: int = 0) -> Mask:
    """Read a mask as (H, W) bool: every pixel whose value is above `threshold` is defect.
    `pipeline.read_mask` chooses the threshold for a JPEG, whose values change around defects.

    Takes 0/255 and 0/1, 8 and 16 bit, grey, palette and RGB(A) files; of several channels the
    greatest value counts, and what is transparent is background. Where all is black, what is not
    transparent is defect. Raises DataError as `read_image`.
    """
    return np.asarray(read_mask_values(path) > threshold)


def read_mask_values(
    path: Path, size: tuple[int, int] | None = None, image: str = ""
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The values (H, W) of a mask file, in its own range. Raises DataError as `read_image`; with
    the `size` (height, width) of the image of that name, also for a mask of another size, before
    any of its pixels is decoded."""
    header, data = read_file(path)
    if size is not None and size != header.size:
        _refuse_size(path, header.size, size, image)
    with decoding(path):
        grey = read_grey(data) if header.kind == "PNG" else None
    if grey is not None and grey.shape == (header.height, header.width):
        return upright(grey, header.orientation)
    indices = _palette_indices(header, data)
    raw = decode(path, header, data)
    with decoding(path):
        return _meant(raw, indices)


def _meant(
    raw: NDArray[Any], indices: NDArray[np.uint8] | None
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The greatest colour value (H, W) of decoded pixels, 0 where they are background: transparent,
    or, in a picture with a palette that has no black, of the commonest colour of its border. In a
    picture that is black all over and partly transparent, the value is the opacity."""
    colours = raw[:, :, :3] if raw.ndim == 3 else raw[:, :, None]
    if raw.ndim == 3 and raw.shape[2] in {2, 4}:
        colours, alpha = raw[:, :, :-1], raw[:, :, -1]
        if not colours.any() and not alpha.all():  # drawn in black on nothing
            return np.asarray(alpha)
        return np.asarray(np.where(alpha > 0, colours.max(axis=2), 0), raw.dtype)
    values = np.asarray(colours.max(axis=2))
    if indices is not None and values.size and values.min() > 0:
        border = np.concatenate([indices[0], indices[-1], indices[:, 0], indices[:, -1]])
        values = np.where(indices == np.bincount(border).argmax(), 0, values).astype(values.dtype)
    return values


def _refuse_size(path: Path, own: tuple[int, int], size: tuple[int, int], image: str) -> NoReturn:
    reason = f"is {own[1]}x{own[0]} but its image {image} is {size[1]}x{size[0]}"
    remedy = "draw the mask on the image it belongs to"
    if own == size[::-1]:
        remedy += "; a photo that EXIF rotates is read upright, so its mask has to be upright too"
    raise DataError(path, reason, remedy)


def read_indices(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The values (H, W) of a mask file; of one with a palette the indices, not the colours. Raises
    DataError as `read_image`."""
    header, data = read_file(path)
    indices = _palette_indices(header, data)
    return read_mask_values(path) if indices is None else indices


def read_label_values(
    path: Path, size: tuple[int, int] | None = None, image: str = "", as_colours: bool = False
) -> NDArray[np.int32]:
    """The values (H, W) of a label map: indices of a palette, grey values, or of colours the number
    0xRRGGBB with `COLOUR`. What is black or transparent is 0. as_colours: of a palette, its
    colours. Raises DataError as `read_mask_values`."""
    header, data = read_file(path)
    if size is not None and size != header.size:
        _refuse_size(path, header.size, size, image)
    if not as_colours and (indices := _palette_indices(header, data)) is not None:
        return indices.astype(np.int32)
    raw = decode(path, header, data)
    with decoding(path):
        if raw.ndim == 2:
            return raw.astype(np.int32)
        opaque = raw[:, :, -1] > 0 if raw.shape[2] in {2, 4} else True
        if raw.shape[2] < 3 or (raw[:, :, :3] == raw[:, :, :1]).all():
            return np.where(opaque, raw[:, :, 0].astype(np.int32), 0)
        if raw.dtype != np.uint8:
            raise DataError(path, f"has colours of type {raw.dtype}", "save it with 8 bits")
        blue, green, red = (raw[:, :, channel].astype(np.int32) for channel in range(3))
        colours = red << 16 | green << 8 | blue
        return np.where(opaque & (colours > 0), colours | COLOUR, 0)


def _palette_indices(header: Header, data: bytes) -> NDArray[np.uint8] | None:
    """The indices of an image with a palette, by Pillow: OpenCV gives colours. Pillow's classes are
    called directly, because ultralytics changes PIL's `open`, and no other format may be tried."""
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    readers = {"PNG": PngImageFile, "BMP": BmpImageFile, "TIFF": TiffImageFile}
    if header.kind not in readers or (header.kind == "PNG" and data[25] != _PNG_PALETTE):
        return None
    silence_pillow()
    if header.kind == "TIFF" and header.orientation != 1:  # else Pillow turns it
        data = tiff_as_stored(data)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            readers[header.kind](io.BytesIO(data)) as image,
        ):
            if image.mode == "P" and image.size == (header.width, header.height):
                return upright(np.asarray(image, dtype=np.uint8), header.orientation)
    except Exception:  # any error of a decoder: OpenCV tries next and reports its own
        return None
    return None
