"""Pixels from files. Images are HWC uint8 RGB; masks are (H, W) bool."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.io.image_header import Header, orientation, read_header
from pipeline.io.names import leaves_its_folder
from pipeline.io.png import read_grey
from pipeline.io.read import files_below, is_junk, open_regular, shown_value
from pipeline.io.write import whole_file

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
_HEATMAP_SIDE = 512
_TAIL = 4096  # bytes that may follow the end mark, such as a camera's notes
_END_MARKS = {b"\x89P": b"IEND\xaeB`\x82", b"\xff\xd8": b"\xff\xd9"}  # PNG, JPEG
_UNREADABLE = "is not a readable image (broken or empty)"
_BROKEN = "copy it again from its source, or leave it out with --keep-going"
_MOST_BYTES, _BYTES_OF_A_PIXEL = 1 << 28, 16  # of a file
_SCAN, _MOST_SCANS = b"\xff\xda", 100  # of a JPEG; encoders make about ten
_PNG_PALETTE = 3  # the colour type in byte 25
_EIGHT_BITS = (np.arange(1 << 16) / 257.0 + 0.5).astype(np.uint8)
_NPY_START = 1 << 14  # bytes that hold a header
_NPY_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_image(path: Path) -> Image:
    """Read an image as (H, W, 3) uint8 RGB in [0, 255], in the order of its stored pixels.

    EXIF rotation is NOT applied: masks and boxes belong to the stored pixels, and COCO and YOLO
    readers disagree about it. A rotated file is refused by `read_size`. 16-bit images are scaled
    from [0, 65535] to [0, 255]; grey is repeated in three channels; alpha is dropped. Raises
    DataError for other formats than PNG, JPEG, BMP, TIFF and WebP, and broken or too large files.
    """
    header, data = _file(path)
    raw = _decode(path, header, data)
    with _decoding(path):
        if raw.dtype == np.uint16:
            raw = _EIGHT_BITS[raw]
        elif raw.dtype != np.uint8:
            raise DataError(path, f"has pixels of type {raw.dtype}", "save it with 8 or 16 bits")
        if raw.ndim == 2:
            return np.repeat(raw[:, :, None], 3, axis=2)
        if raw.shape[2] < 3:
            raise DataError(path, f"has {raw.shape[2]} channels", "save it as grey or RGB")
        return np.ascontiguousarray(raw[:, :, 2::-1])


def read_mask(path: Path, threshold: int = 0) -> Mask:
    """Read a mask as (H, W) bool: every pixel whose value is above `threshold` is defect.

    Takes 0/255 and 0/1, 8 and 16 bit, grey, palette and RGB(A) files; of several channels the
    greatest value counts, and what is transparent is background. Raises DataError as `read_image`.
    """
    return np.asarray(read_mask_values(path) > threshold)


def read_mask_values(
    path: Path, size: tuple[int, int] | None = None, image: str = ""
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The values (H, W) of a mask file, in its own range. Raises DataError as `read_image`; with
    the `size` (height, width) of the image of that name, also for a mask of another size, before
    any of its pixels is decoded."""
    header, data = _file(path)
    if size is not None and size != (header.height, header.width):
        raise DataError(
            path,
            f"is {header.width}x{header.height} but its image {image} is {size[1]}x{size[0]}",
            "draw the mask on the image it belongs to",
        )
    with _decoding(path):
        grey = read_grey(data) if header.kind == "PNG" else None
    if grey is not None and grey.shape == (header.height, header.width):
        return grey
    indices = _palette_indices(header, data)
    raw = _decode(path, header, data)
    with _decoding(path):
        return _meant(raw, indices)


def _meant(
    raw: NDArray[Any], indices: NDArray[np.uint8] | None
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The greatest colour value (H, W) of decoded pixels, 0 where they are background: transparent,
    or, in a picture with a palette that has no black, of the commonest colour of its border."""
    colours = raw[:, :, :3] if raw.ndim == 3 else raw[:, :, None]
    if raw.ndim == 3 and raw.shape[2] in {2, 4}:
        alpha = raw[:, :, -1]
        colours = raw[:, :, :-1]
        values = np.where(alpha > 0, colours.max(axis=2), 0)
        return np.asarray(values, raw.dtype)
    values = np.asarray(colours.max(axis=2))
    if indices is not None and values.size and values.min() > 0:
        border = np.concatenate([indices[0], indices[-1], indices[:, 0], indices[:, -1]])
        values = np.where(indices == np.bincount(border).argmax(), 0, values).astype(values.dtype)
    return values


def read_indices(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The values (H, W) of a mask file; of one with a palette the indices, not the colours. Raises
    DataError as `read_image`."""
    header, data = _file(path)
    indices = _palette_indices(header, data)
    return read_mask_values(path) if indices is None else indices


def _palette_indices(header: Header, data: bytes) -> NDArray[np.uint8] | None:
    """The indices of an image with a palette, by Pillow: OpenCV gives colours. Pillow's classes are
    called directly, because ultralytics changes PIL's `open`, and no other format may be tried."""
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    readers = {"PNG": PngImageFile, "BMP": BmpImageFile, "TIFF": TiffImageFile}
    if header.kind not in readers or (header.kind == "PNG" and data[25] != _PNG_PALETTE):
        return None
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            readers[header.kind](io.BytesIO(data)) as image,
        ):
            if image.mode == "P" and image.size == (header.width, header.height):
                return np.asarray(image, dtype=np.uint8)
    except Exception:  # any error of a decoder: OpenCV tries next and reports its own
        return None
    return None


def read_heatmap(folder: Path, name: str, size: tuple[int, int]) -> NDArray[np.float32]:
    """The heat map (H, W) of an image, from `<name>.npy` or a grey `<name>.png` in a folder. It is
    resized to the image's (height, width). Raises DataError, also for values that are not
    finite."""
    import cv2

    if leaves_its_folder(name):
        reason = f"holds no heat map of {shown_value(name)}: the name leads outside"
        raise DataError(folder, reason, "rename the image")
    stem = folder / Path(name).with_suffix("")
    path = stem.with_suffix(".npy")
    if os.path.lexists(path):
        values = _read_array(path)
    else:
        path = stem.with_suffix(".png")
        values = read_mask_values(path)
    with _decoding(path), np.errstate(over="ignore"):
        values = values.astype(np.float32)
        if not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise DataError(path, "holds values that are not finite", "write it again")
        height, width = size
        return np.asarray(cv2.resize(values, (width, height)), np.float32)


def _read_array(path: Path) -> NDArray[Any]:
    """The numbers (H, W) of a .npy file. Raises DataError for another shape or type in its header,
    before memory is taken for it."""
    remedy = "write one number a pixel with numpy.save"
    with open_regular(path) as stream:
        start = io.BytesIO(stream.read(_NPY_START))
        try:
            reader = _NPY_HEADERS[np.lib.format.read_magic(start)]
            shape, _, kind = reader(start)
        except Exception as error:  # numpy parses the header as Python: any of its parser's
            raise DataError(path, "is not a .npy file", remedy) from error
        if kind.kind not in "biuf":
            raise DataError(path, f"holds {kind.name}, not numbers", remedy)
        if len(shape) != 2 or not all(shape):
            raise DataError(path, f"is of shape {shown_value(shape)}", remedy)
        there = os.fstat(stream.fileno()).st_size - start.tell()
        if shape[0] * shape[1] * kind.itemsize > there:
            reason = f"says {shape[1]}x{shape[0]} values, but has only {there} bytes"
            raise DataError(path, reason, remedy)
        stream.seek(0)
        with _decoding(path):
            return np.asarray(np.load(stream, allow_pickle=False))


def write_heatmap(folder: Path, name: str, heatmap: NDArray[np.float32]) -> None:
    """Write a heat map (H, W) for `read_heatmap`, at most 512 pixels on its longer side: no model
    here has a finer map."""
    import cv2

    scale = _HEATMAP_SIDE / max(heatmap.shape)
    if scale < 1:
        size = (round(heatmap.shape[1] * scale), round(heatmap.shape[0] * scale))
        heatmap = np.asarray(cv2.resize(heatmap, size, interpolation=cv2.INTER_AREA), np.float32)
    path = folder / Path(name).with_suffix(".npy")
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, heatmap, allow_pickle=False)


def _file(path: Path) -> tuple[Header, bytes]:
    """Header and bytes of an image file. Raises DataError, also for far more bytes than its pixels
    need."""
    with open_regular(path) as stream, _decoding(path):
        header = read_header(stream, path)
        size = os.fstat(stream.fileno()).st_size
        if size > _MOST_BYTES + header.height * header.width * _BYTES_OF_A_PIXEL:
            raise DataError(path, f"has {size} bytes, too many for its picture", "save it again")
        stream.seek(0)
        data = stream.read()
    if header.kind == "JPEG" and data.count(_SCAN) > _MOST_SCANS:  # each goes over every pixel
        raise DataError(path, f"has more than {_MOST_SCANS} scans", "save it again")
    return header, data


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn every exception of a decoder within the block into a DataError about the file."""
    import cv2

    try:
        yield
    except DataError:
        raise
    except Exception as error:
        full = isinstance(error, MemoryError) or getattr(error, "code", 0) == cv2.Error.StsNoMem
        if full:
            raise DataError(path, "takes more memory than there is", "cut it into parts") from error
        raise DataError(path, _UNREADABLE, _BROKEN) from error


def _decode(path: Path, header: Header, data: bytes) -> NDArray[Any]:
    import cv2

    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the DataError says it
    with _decoding(path):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None or sorted(pixels.shape[:2]) != sorted((header.height, header.width)):
        raise DataError(path, _UNREADABLE, _BROKEN)
    _refuse_truncated(path, data[:2], data[-_TAIL:])
    return np.asarray(pixels)


def _refuse_truncated(path: Path, head: bytes, tail: bytes) -> None:
    """Decoders fill missing pixels with grey without an error, so look for the end mark."""
    end = _END_MARKS.get(head)
    if end is not None and end not in tail:
        raise DataError(path, "is truncated: its end is missing", _BROKEN)


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) without decoding. Raises DataError for EXIF-rotated, broken and oversized
    files."""
    with open_regular(path) as stream, _decoding(path):
        header = read_header(stream, path)
        rotation = orientation(stream, header.kind)
        stream.seek(0)
        head = stream.read(2)
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
        _refuse_truncated(path, head, stream.read(_TAIL))
    if rotation != 1:
        raise DataError(
            path,
            f"carries EXIF orientation {rotation}: tools disagree which way its pixels lie",
            "rotate its pixels and save it without EXIF, or leave it out with --keep-going",
        )
    return header.height, header.width


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
    return [p for p in paths if p.suffix.lower() in SUFFIXES and not is_junk(p.name)]


def images_below(folder: Path) -> list[Path]:
    """The image files in `folder` and the folders in it, sorted; as `files_below`, without
    folders that a command of this pipeline wrote."""
    paths = (Path(path) for path in files_below(folder))
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES)
