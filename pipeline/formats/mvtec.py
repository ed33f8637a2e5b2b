"""MVTec AD's layout: train/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png.

Bergmann et al., "MVTec AD", CVPR 2019. `layouts` lists it, and the layouts of other datasets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import DataError, Faults
from pipeline.formats.layouts import read_products
from pipeline.formats.layouts.mvtec import AD
from pipeline.formats.record_masks import (
    InstanceOptions,
    Instances,
    read_defect_mask,
    read_instances,
)
from pipeline.geometry.masks import decode, encode_patches
from pipeline.io.image_copies import place_image
from pipeline.io.images import write_png
from pipeline.io.names import safe_component
from pipeline.io.write import make_folder
from pipeline.runtime.progress import track
from pipeline.types import GOOD, Dataset, Detections, ImageRecord

__all__ = [
    "category_of", "detections_of", "read_defect_mask", "read_mvtec",
    "read_mvtec_objects", "with_instances", "write_mvtec",
]  # fmt: skip


def read_mvtec(
    products: Sequence[Path],
    faults: Faults,
    allow_outside: bool = False,
    needs_masks: bool = True,
) -> Dataset:
    """As `read_products`, for products in MVTec AD's layout alone."""
    for product in products:
        if not product.is_dir():
            raise DataError(product, "no such folder", "check the path")
        if missing := AD.missing(product):
            raise DataError(
                product, "is not in MVTec layout: no test folder", f"expected {missing[0]}"
            )
    return read_products(products, faults, allow_outside, needs_masks, AD)


def read_mvtec_objects(
    product: Path, threshold: int | None = None, allow_outside: bool = False
) -> Dataset:
    """Read a product folder of any layout with the instances of its masks.

    The `file_name` of a record is the bare name of the file where these are all different. Raises
    DataError at the first fault.
    """
    listed = read_products([product], Faults(), allow_outside)
    unique = len({record.path.stem for record in listed.records}) == len(listed.records)
    if unique:
        names = tuple(replace(record, file_name=record.path.name) for record in listed.records)
        listed = replace(listed, records=names)
    return with_instances(listed, Faults(), threshold)


def with_instances(dataset: Dataset, faults: Faults, threshold: int | None = None) -> Dataset:
    """The dataset with the instances of its masks. An image with a faulty mask is a fault."""
    records, objects = [], {}
    for record in track(dataset.records, "read masks"):
        try:
            instances = read_instances(record, InstanceOptions(threshold))
        except DataError as error:
            faults.add(error)
            continue
        records.append(record)
        if record.masks:
            objects[record.id] = detections_of(instances, record, dataset.categories)
    return Dataset(dataset.categories, tuple(records), objects)


def detections_of(
    instances: Instances, record: ImageRecord, categories: Sequence[str]
) -> Detections:
    """The instances of an image as ground truth."""
    masks = encode_patches(instances.patches, *record.size)
    labels = np.array([categories.index(name) for name in instances.categories], dtype=np.int64)
    return replace(Detections.from_masks(masks, 0), labels=labels)


def write_mvtec(root: Path, dataset: Dataset, copy_images: bool = False) -> None:
    """Write a product folder: each image in the folder of its category, or in `combined` for an
    image with several categories.

    A mask keeps pixels, not objects: objects that touch become one. A category that is unsafe as a
    folder name is changed by `safe_component`, and is read back with the changed name. Raises
    DataError where two images would get one name, and for a defect category called good.
    """
    by_stem: dict[str, ImageRecord] = {}
    for record in dataset.records:
        objects = dataset.on(record)
        defect = category_of(record, objects, dataset.categories)
        name = Path(record.file_name).name
        if (stem := Path(name).stem) in by_stem:
            raise DataError(record.path, f"has the same name as {by_stem[stem].path}", "rename one")
        by_stem[stem] = record
        if defect == GOOD and len(objects):
            reason = f"has defects called {GOOD}, which have no mask in this layout"
            raise DataError(record.path, reason, "rename the category")
        category = safe_component(defect)
        trained = defect == GOOD and "train" in (record.source_split, record.split)
        folder = root / ("train" if trained else "test") / category
        place_image(record.path, folder / name, copy_images)
        if defect != GOOD:
            canvas = np.zeros(record.size, dtype=np.uint8)
            for rle in objects.masks or ():
                canvas[decode(rle)] = 255
            write_png(root / "ground_truth" / category / f"{stem}_mask.png", canvas)
    make_folder(root / "test")


def category_of(record: ImageRecord, objects: Detections, categories: Sequence[str]) -> str:
    """MVTec's category of a whole image: the category of its objects, `combined` for several, and
    `record.defect` without objects."""
    names = {categories[int(label)] for label in objects.labels}
    if len(names) > 1:
        return "combined"
    return names.pop() if names else record.defect
