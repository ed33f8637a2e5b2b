"""The input of a conversion: product folders and COCO files with masks, as one dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.coco import images_beside, read_coco
from pipeline.formats.coco_schema import PARQUET
from pipeline.formats.image_files import NamedFolders, refuse_missized
from pipeline.formats.layouts import read_products
from pipeline.formats.mvtec import category_of
from pipeline.formats.shard_index import index_of
from pipeline.geometry import masks as mask_geometry
from pipeline.types import GOOD, Dataset, Detections, ImageRecord, split_of

_IN_FOLDER = Path("annotations") / "instances.json"


def read_datasets(
    sources: Sequence[Path],
    faults: Faults,
    images: Path | None = None,
    allow_outside: bool = False,
) -> Dataset:
    """Read product folders without objects, and COCO files with objects.

    sources: product folders, COCO files, or folders that hold annotations/instances.json. An object
    of a COCO file needs a mask, and gets the box of its mask. images: the folder that file names in
    COCO are relative to; without it, `images` beside the file or its folder. allow_outside: images
    may be outside that folder, or outside their product. Raises DataError as `read_products`, and
    for objects without masks. `faults` decides on single images: missing, of another size, or
    outside their folder.
    """
    products = [source for source in sources if _listing(source) is None]
    sets = [read_products(products, faults, allow_outside)] if products else []
    for source in sources:
        if (path := _listing(source)) is not None:
            place = images or images_beside(path) or path.parent
            sets.append(_read_coco(path, place, NamedFolders([place], allow_outside), faults))
    categories = tuple(dict.fromkeys(name for each in sets for name in each.categories))
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    for each in sets:
        label_of = np.array([categories.index(name) for name in each.categories], np.int64)
        for record in each.records:
            records.append(replace(record, id=len(records) + 1))
            if record.id in each.objects:
                own = each.objects[record.id]
                objects[len(records)] = replace(own, labels=label_of[own.labels])
    if not sources:
        raise ConfigError("convert-masks needs a product, or --images and --masks")
    if not records:
        raise DataError(sources[0], "holds no usable image", "check the path")
    return Dataset(categories, tuple(records), objects)


def _listing(source: Path) -> Path | None:
    """The COCO file of a source, or its index: itself, or the one in it. None for a product
    folder."""
    if source.suffix.lower() in {".json", PARQUET}:
        return source
    inside = source / _IN_FOLDER
    return next((path for path in (inside, index_of(inside)) if path.is_file()), None)


def _read_coco(path: Path, images: Path, folders: NamedFolders, faults: Faults) -> Dataset:
    dataset = read_coco(path, images)
    objects = {
        record.id: _masks_alone(path, record, dataset.on(record)) for record in dataset.records
    }
    records = []
    for record in _usable(dataset.records, folders, faults):
        category = category_of(replace(record, defect=GOOD), objects[record.id], dataset.categories)
        split = record.split or split_of(record.file_name)
        name = record.file_name.removeprefix(f"{split}/").lstrip("/")
        group = record.group or Path(name).stem
        records.append(replace(record, defect=category, split=split, file_name=name, group=group))
    return Dataset(dataset.categories, tuple(records), objects)


def _masks_alone(path: Path, record: ImageRecord, objects: Detections) -> Detections:
    """The masks of an image that have pixels, with the boxes of these masks."""
    if not len(objects):
        return Detections.none()
    if objects.masks is None:
        reason = f"has boxes without masks on {record.file_name}"
        raise DataError(path, reason, "make masks from them with pipeline segment")
    masks = tuple(rle for rle in objects.masks if mask_geometry.area(rle))
    labels = objects.labels[[mask_geometry.area(rle) > 0 for rle in objects.masks]]
    return Detections(mask_geometry.bounding_boxes(masks), labels, masks=masks)


def _usable(
    records: Sequence[ImageRecord], folders: NamedFolders, faults: Faults
) -> Iterator[ImageRecord]:
    """The images that exist, are inside the `folders`, and have the size that the file lists."""
    for record in records:
        try:
            folders.refuse_outside(record.path)
            refuse_missized(record.path, record.size)
        except DataError as error:
            faults.add(error)
            continue
        yield record
