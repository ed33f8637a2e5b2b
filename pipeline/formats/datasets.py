"""What is to be converted: MVTec product folders, and COCO sets with masks, as one set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import DataError, Faults
from pipeline.formats.coco import images_beside, read_coco
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.mvtec import kind_of, read_mvtec
from pipeline.geometry import masks as mask_geometry
from pipeline.io.images import read_size
from pipeline.types import GOOD, Dataset, Detections, ImageRecord, split_of

_IN_FOLDER = Path("annotations") / "instances.json"


def read_datasets(
    sources: Sequence[Path],
    faults: Faults,
    images: Path | None = None,
    allow_outside: bool = False,
) -> Dataset:
    """MVTec folders as `read_mvtec` has them, without objects; COCO files, or folders that hold
    annotations/instances.json, with their objects, whose boxes are their masks'.

    images: the folder that COCO's names are relative to; without it, `images` beside the file or
    its folder. Raises DataError as `read_mvtec` does, and for objects without masks; `faults`
    decides on images that are missing or of another size, and on those outside the folder of
    images, or of the product, unless `allow_outside`.
    """
    products = [source for source in sources if _listing(source) is None]
    sets = [read_mvtec(products, faults, allow_outside)] if products else []
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
                found = each.objects[record.id]
                objects[len(records)] = replace(found, labels=label_of[found.labels])
    if not records:
        raise DataError(sources[0], "holds no usable image", "check the path")
    return Dataset(categories, tuple(records), objects)


def _listing(source: Path) -> Path | None:
    """The COCO file that a source is or holds, None for a product folder."""
    if source.suffix.lower() == ".json":
        return source
    return source / _IN_FOLDER if (source / _IN_FOLDER).is_file() else None


def _read_coco(path: Path, images: Path, folders: NamedFolders, faults: Faults) -> Dataset:
    read = read_coco(path, images)
    objects = {record.id: _masked(path, record, read.on(record)) for record in read.records}
    kept = []
    for record in _usable(read.records, folders, faults):
        kind = kind_of(replace(record, defect=GOOD), objects[record.id], read.categories)
        split = record.split or split_of(record.file_name)
        name = record.file_name.removeprefix(f"{split}/").lstrip("/")
        group = record.group or Path(name).stem
        kept.append(replace(record, defect=kind, split=split, file_name=name, group=group))
    return Dataset(read.categories, tuple(kept), objects)


def _masked(path: Path, record: ImageRecord, found: Detections) -> Detections:
    """An image's objects that have pixels, by their masks alone."""
    if not len(found):
        return Detections.none()
    if found.masks is None:
        reason = f"has boxes without masks on {record.file_name}"
        raise DataError(path, reason, "cut them first with pipeline segment")
    masks = tuple(rle for rle in found.masks if mask_geometry.area(rle))
    labels = found.labels[[mask_geometry.area(rle) > 0 for rle in found.masks]]
    return Detections(mask_geometry.bounding_boxes(masks), labels, masks=masks)


def _usable(
    records: Sequence[ImageRecord], folders: NamedFolders, faults: Faults
) -> Iterator[ImageRecord]:
    """The images that are there, in one of the `folders`, of the size that the file says."""
    for record in records:
        try:
            folders.refuse_outside(record.path)
            if not record.path.exists():
                raise DataError(record.path, "no such image", "give their folder with --images")
            if (size := read_size(record.path)) != record.size:
                reason = f"is {size[1]}x{size[0]}, but listed as {record.width}x{record.height}"
                raise DataError(record.path, reason, "pipeline validate names all such faults")
        except DataError as error:
            faults.add(error)
            continue
        yield record
