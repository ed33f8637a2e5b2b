"""PNG masks: one file per image; pixel value 0 is background, k is the k-th object of the image.

`objects.json` beside them lists for each image its size and, in order, the label of each object. A
pixel that is in several objects keeps only the last of them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, TypeAdapter
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from pipeline.errors import DataError
from pipeline.formats.schema import FileName, Label, Side, Text, checked_size
from pipeline.geometry.masks import bounding_boxes, encode_patches, to_patch
from pipeline.geometry.patches import Patch, tight
from pipeline.io.images import read_size, write_png
from pipeline.io.mask_files import read_indices
from pipeline.io.read import checked, read_json
from pipeline.io.write import write_json
from pipeline.types import Dataset, Detections, ImageRecord

_LISTING = "objects.json"
_FEW_OBJECTS = 16  # objects; for more, one pass over the pixels is faster than one each
_MAX_OBJECTS = 2**16 - 1  # objects in 16 bits

Values = NDArray[np.uint8] | NDArray[np.uint16]


def write_png_masks(root: Path, dataset: Dataset) -> None:
    """Write `root/<file_name>.png` for each image with objects, and `objects.json`."""
    dataset.refuse_equal_stems()
    listing: dict[str, JsonValue] = {}
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

    Returns the number of pixels that are in several objects: a PNG keeps only the last of them.
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
    """The `count` objects of a mask file, with labels of 0. An object without a pixel is empty.

    Raises DataError as `read_indices` does.
    """
    values = read_indices(path)
    patches = _patches_by_value(values, count) if count > _FEW_OBJECTS else [
        tight(values == number) for number in range(1, count + 1)
    ]  # fmt: skip
    masks = encode_patches(patches, *values.shape)
    return Detections(bounding_boxes(masks), np.zeros(count, dtype=np.int64), masks=tuple(masks))


def _patches_by_value(values: Values, count: int) -> list[Patch]:
    """`tight(values == number)` for each number, in one pass over the pixels."""
    width = values.shape[1]
    places = np.flatnonzero(values)
    numbers = values.ravel()[places]
    order = np.argsort(numbers, kind="stable")
    places, numbers = places[order], numbers[order]
    bounds = np.searchsorted(numbers, np.arange(1, count + 2))
    patches = []
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        y, x = np.divmod(places[start:end], width)
        if not len(y):
            patches.append(Patch(0, 0, np.zeros((0, 0), dtype=bool)))
            continue
        pixels = np.zeros((int(y.max() - y.min()) + 1, int(x.max() - x.min()) + 1), dtype=bool)
        pixels[y - y.min(), x - x.min()] = True
        patches.append(Patch(int(x.min()), int(y.min()), pixels))
    return patches


class _Entry(TypedDict):
    """An image of the listing: its size, and the label of each object."""

    height: Side
    width: Side
    labels: Annotated[list[Label], Field(max_length=_MAX_OBJECTS)]


class _Listing(TypedDict):
    """`objects.json`."""

    categories: list[Text]
    images: dict[FileName, _Entry]


_LISTING_TYPE = TypeAdapter(_Listing)


def read_png_masks(root: Path, images: Path | None = None) -> Dataset:
    """Read what `write_png_masks` wrote. images: the folder of images; without it, `root`. Raises
    DataError for a missing or faulty listing or mask."""
    path = root / _LISTING
    raw = read_json(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("images"), dict):
        raise DataError(path, "is not a listing of PNG masks", "write it again")
    content = checked(_LISTING_TYPE, raw, path)
    records, objects = [], {}
    for number, (name, entry) in enumerate(sorted(content["images"].items()), start=1):
        try:
            size = checked_size(entry["height"], entry["width"])
            records.append(ImageRecord(number, (images or root) / name, name, *size))
        except ValueError as error:
            raise DataError(path, f"image {name}: {error}", "correct it") from error
        if labels := entry["labels"]:
            if max(labels) >= len(content["categories"]):
                reason = f"image {name} has label {max(labels)}, but there are"
                raise DataError(path, f"{reason} {len(content['categories'])}", "correct it")
            objects[number] = _objects(root / Path(name).with_suffix(".png"), labels, size)
    return Dataset(tuple(content["categories"]), tuple(records), objects)


def _objects(path: Path, labels: list[int], size: tuple[int, int]) -> Detections:
    if read_size(path) != size:  # before a pixel is decoded
        raise DataError(path, f"has not the size {size[1]}x{size[0]}", "write it again")
    objects = read_png_mask(path, len(labels))
    return replace(objects, labels=np.array(labels, dtype=np.int64))
