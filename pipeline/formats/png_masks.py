"""PNG masks: one file per image; pixel value 0 is background, k is the k-th object of the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.geometry import masks as mask_geometry
from pipeline.images import write_png
from pipeline.types import Detections, ImageRecord


def write_png_mask(root: Path, record: ImageRecord, objects: Detections) -> int:
    """Write `root/<file_name>.png`, 8 bits, or 16 for more than 255 objects.

    Returns the number of pixels that lie in several objects: a PNG keeps only the last of them.
    """
    deep = np.uint8 if len(objects) <= 255 else np.uint16
    canvas = np.zeros(record.size, dtype=deep)
    overlap = 0
    for index, rle in enumerate(objects.masks or ()):
        mask = mask_geometry.decode(rle)
        overlap += int((canvas[mask] > 0).sum())
        canvas[mask] = index + 1
    write_png(root / Path(record.file_name).with_suffix(".png"), canvas)
    return overlap
