"""PNG masks: one file per image; pixel value 0 is background, k is the k-th object of the image.

What the objects are stands beside them in `objects.json`: for each image its size and, in order,
the label of each object. Pixels that lie in several objects keep only the last of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.geometry.masks import bounding_boxes, encode_patches, to_patch
from pipeline.geometry.patches import tight
from pipeline.images import read_indices, write_png
from pipeline.io.read import read_json
from pipeline.io.write import write_json
from pipeline.types import Dataset, Detections, ImageRecord

_LISTING = "objects.json"


def write_png_masks(root: Path, dataset: Dataset) -> None:
    """Write `root/<file_name>.png` for each image with objects, and `objects.json`."""
    dataset.refuse_equal_stems()
    listing: dict[str, Any] = {}
    for record in dataset.records:
        objects = dataset.on(record)
        if len(objects):
            write_png_mask(root, record, objects)
        listing[record.file_name] = {
            "height": record.height,
            "width": record.width,
            "labels": objects.labels.tolist(),
        }
    content = {"categories": list(dataset.categories), "images": listing}
    write_json(root / _LISTING, content)


def write_png_mask(root: Path, record: ImageRecord, objects: Detections) -> int:
    """Write `root/<file_name>.png`, 8 bits, or 16 for more than 255 objects.

    Returns the number of pixels that lie in several objects: a PNG keeps only the last of them.
    """
    deep = np.uint8 if len(objects) <= 255 else np.uint16
    canvas = np.zeros(record.size, dtype=deep)
    overlap = 0
    for index, rle in enumerate(objects.masks or ()):
        patch = to_patch(rle)
        x0, y0, x1, y1 = patch.box
        region = canvas[y0:y1, x0:x1]
        overlap += int(np.count_nonzero(region[patch.pixels]))
        region[patch.pixels] = index + 1
    write_png(root / Path(record.file_name).with_suffix(".png"), canvas)
    return overlap


def read_png_mask(path: Path, count: int) -> Detections:
    """The `count` objects of a mask file, labels all 0; one that no pixel is left of is empty."""
    values = read_indices(path)
    patches = [tight(values == number) for number in range(1, count + 1)]
    masks = encode_patches(patches, *values.shape)
    return Detections(bounding_boxes(masks), np.zeros(count, dtype=np.int64), masks=tuple(masks))


def read_png_masks(root: Path, images: Path | None = None) -> Dataset:
    """Read what `write_png_masks` wrote. Raises DataError for a missing listing or mask."""
    content = read_json(root / _LISTING)
    try:
        return _parse(root, content, images or root)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            root / _LISTING, f"is not a listing of PNG masks ({error!r})", "write it anew"
        ) from error


def _parse(root: Path, content: Mapping[str, Any], images: Path) -> Dataset:
    records, objects = [], {}
    for number, (name, entry) in enumerate(sorted(content["images"].items()), start=1):
        size = int(entry["height"]), int(entry["width"])
        records.append(ImageRecord(number, images / name, name, *size))
        if labels := entry["labels"]:
            path = root / Path(name).with_suffix(".png")
            found = read_png_mask(path, len(labels))
            if tuple(found.masks[0]["size"] if found.masks else size) != size:
                raise DataError(path, f"has not the size {size[1]}x{size[0]}", "write it anew")
            column = np.array(labels, dtype=np.int64)
            objects[number] = Detections(found.boxes, column, masks=found.masks)
    return Dataset(tuple(content["categories"]), tuple(records), objects)
