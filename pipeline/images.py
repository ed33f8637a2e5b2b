"""Pixels from files. Images are HWC uint8 RGB; masks are (H, W) bool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.io.read import files_below
from pipeline.io.write import whole_file
from pipeline.png import has_exif, read_grey

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
_HEATMAP_SIDE = 512
_TAIL = 4096  # bytes that may follow the end mark, such as a camera's notes
_END_MARKS = {b"\x89P": b"IEND\xaeB`\x82", b"\xff\xd8": b"\xff\xd9"}  # PNG, JPEG
_BROKEN = "copy it anew from its source, or leave it out with --keep-going"


def read_image(path: Path) -> Image:
    """Read an image as (H, W, 3) uint8 RGB in [0, 255], as it lies on disk.

    EXIF rotation is NOT applied: masks and boxes belong to the stored pixels, and COCO and YOLO
    readers disagree about it. A rotated file is refused by `read_size`. 16-bit images are scaled
    from [0, 65535] to [0, 255]; grey is repeated in three channels; alpha is dropped.
    """
    import cv2

    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    raw = _decode(path, _bytes_of(path), flags)
    if raw.dtype == np.uint16:
        raw = (raw / 257.0 + 0.5).astype(np.uint8)
    elif raw.dtype != np.uint8:
        raise DataError(path, f"has pixels of type {raw.dtype}", "save it with 8 or 16 bits")
    if raw.ndim == 2:
        return np.repeat(raw[:, :, None], 3, axis=2)
    return np.ascontiguousarray(raw[:, :, 2::-1])


def read_mask(path: Path, threshold: int = 0) -> Mask:
    """Read a mask as (H, W) bool: every pixel whose value is above `threshold` is defect.

    Takes 0/255 and 0/1, 8 and 16 bit, grey, palette and RGB(A) files; an alpha channel is ignored,
    and of several channels the greatest value counts.
    """
    return np.asarray(read_mask_values(path) > threshold)


def read_mask_values(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The values (H, W) of a mask file, in its own range."""
    import cv2

    data = _bytes_of(path)
    grey = read_grey(data.tobytes())
    if grey is not None:
        return grey
    raw = _decode(path, data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.asarray(raw[:, :, :3].max(axis=2) if raw.ndim == 3 else raw)


def read_indices(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The values (H, W) of a mask file; of one with a palette the indices, not the colours."""
    from PIL import Image as PillowImage

    try:
        with PillowImage.open(path) as image:
            if image.mode == "P":
                return np.asarray(image, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError):
        pass  # told in one place, below
    return read_mask_values(path)


def read_heatmap(folder: Path, name: str, size: tuple[int, int]) -> NDArray[np.float32]:
    """The heat map (H, W) of an image in a folder of such: `<name>.npy` or a grey `<name>.png`,
    brought to the image's (height, width). Raises DataError."""
    import cv2

    stem = folder / Path(name).with_suffix("")
    array, picture = stem.with_suffix(".npy"), stem.with_suffix(".png")
    if array.is_file():
        try:
            values = np.load(array, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(array, f"is no array ({error})", "write it with numpy.save") from error
    else:
        values = read_mask_values(picture)
    if values.ndim != 2:
        raise DataError(array, f"is of shape {values.shape}", "give one value a pixel")
    height, width = size
    return np.asarray(cv2.resize(values.astype(np.float32), (width, height)), np.float32)


def write_heatmap(folder: Path, name: str, heatmap: NDArray[np.float32]) -> None:
    """Write a heat map (H, W) as `read_heatmap` finds it, at most 512 pixels on its longer side:
    no model here sees finer."""
    import cv2

    scale = _HEATMAP_SIDE / max(heatmap.shape)
    if scale < 1:
        size = (round(heatmap.shape[1] * scale), round(heatmap.shape[0] * scale))
        heatmap = np.asarray(cv2.resize(heatmap, size, interpolation=cv2.INTER_AREA), np.float32)
    path = folder / Path(name).with_suffix(".npy")
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, heatmap, allow_pickle=False)


def _bytes_of(path: Path) -> NDArray[np.uint8]:
    try:
        return np.fromfile(path, dtype=np.uint8)  # imread cannot open every non-ASCII path
    except FileNotFoundError:
        raise DataError(path, "no such image", "check the path") from None
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "check it") from error


def _decode(path: Path, data: NDArray[np.uint8], flags: int) -> NDArray[Any]:
    import cv2

    try:
        pixels = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:
        pixels = None
    if pixels is None:
        raise DataError(path, "is not a readable image (broken or empty)", _BROKEN)
    _refuse_truncated(path, data[:2].tobytes(), data[-_TAIL:].tobytes())
    return np.asarray(pixels)


def _refuse_truncated(path: Path, head: bytes, tail: bytes) -> None:
    """Decoders fill what is missing with grey and say nothing: look for the end mark instead."""
    end = _END_MARKS.get(head)
    if end is not None and end not in tail:
        raise DataError(path, "is truncated: its end is missing", _BROKEN)


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) without decoding. Raises DataError for EXIF-rotated and broken files."""
    from PIL import Image as PillowImage
    from PIL import UnidentifiedImageError

    try:
        with PillowImage.open(path) as image:
            known = image.format != "PNG" or has_exif(path)  # else Pillow would decode to find out
            orientation = image.getexif().get(0x0112, 1) if known else 1
            width, height = image.size
        with path.open("rb") as stream:
            head = stream.read(2)
            stream.seek(max(0, path.stat().st_size - _TAIL))
            _refuse_truncated(path, head, stream.read())
    except FileNotFoundError:
        raise DataError(path, "no such image", "check the path") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, ImportError) as error:
        # ImportError: ultralytics, once imported, makes `open` ask for a plugin that is not here
        raise DataError(path, "is not a readable image (broken or empty)", _BROKEN) from error
    if orientation != 1:
        raise DataError(
            path,
            f"carries EXIF orientation {orientation}: tools disagree which way its pixels lie",
            "rotate its pixels and save it without EXIF, or leave it out with --keep-going",
        )
    return height, width


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
    """The image files directly in `folder`, sorted by name. Hidden files are passed over."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def images_below(folder: Path) -> list[Path]:
    """The image files in `folder` and the folders in it, sorted; as `storage.files_below`, without
    what a command of this pipeline wrote there."""
    found = (Path(path) for path in files_below(folder))
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)
