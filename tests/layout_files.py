"""Photos and masks of datasets in many layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.formats.record_masks import InstanceOptions, read_instances
from pipeline.io.images import write_png
from pipeline.types import Dataset

BOX = (slice(2, 6), slice(3, 8))  # 4 x 5 = 20 pixels
OTHER = (slice(10, 12), slice(3, 8))  # 2 x 5 = 10 pixels


def photo(path: Path) -> None:
    write_png(path, np.full((16, 20, 3), 90, np.uint8))


def mask(path: Path, first: int = 255, second: int = 0) -> None:
    values = np.zeros((16, 20), np.uint8)
    values[BOX], values[OTHER] = first, second
    write_png(path, values)


def areas(dataset: Dataset) -> dict[str, list[tuple[str, int]]]:
    """Category and area of each instance, by the name of the image."""
    found = {}
    for record in dataset.records:
        read = read_instances(record, InstanceOptions())
        rows = zip(read.categories, read.patches, strict=True)
        found[record.path.name] = [(category, patch.area) for category, patch in rows]
    return found
