"""Heat maps: a number for each pixel, or for each block of pixels, of an image."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.io.image_decode import decoding
from pipeline.io.mask_files import read_mask_values
from pipeline.io.names import leaves_its_folder
from pipeline.io.read import open_regular, shown_value
from pipeline.io.write import whole_file

_HEATMAP_SIDE = 512
_NPY_START = 1 << 14  # bytes that hold a header
_NPY_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


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
    with decoding(path), np.errstate(over="ignore"):
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
        with decoding(path):
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
