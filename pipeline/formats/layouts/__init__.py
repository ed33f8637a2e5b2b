"""Layouts of image folders: how public and own datasets lay out images, masks and splits.

A layout is one entry of `LAYOUTS`: its name, the parts by which it is recognised, and a function
that lists its images. `read_products` reads a folder of any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.errors import DataError, Faults
from pipeline.formats.foreign import foreign_format
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.layouts import (
    aitex,
    dagm,
    kolektor,
    mask_folders,
    mvtec,
    roboflow,
    severstal,
    visa,
)
from pipeline.formats.layouts.listing import Layout, Search, folders_in
from pipeline.formats.layouts.records import as_dataset, records_of
from pipeline.types import SPLITS, Dataset, ImageRecord

LAYOUTS: tuple[Layout, ...] = (  # the more special ones first
    visa.OBJECT,
    visa.ALL,
    severstal.SEVERSTAL,
    aitex.AITEX,
    dagm.CLASS,
    dagm.ALL,
    kolektor.SDD2,
    kolektor.SDD,
    mvtec.AD2,
    mask_folders.FOLDERS,
    roboflow.MASKS,
    mvtec.LOCO,
    mvtec.BTAD,
    mvtec.AD,
)


def recognise(root: Path) -> Layout:
    """The layout of a folder. Raises DataError with the nearest layout and what it lacks."""
    if not root.is_dir():
        raise DataError(root, "no such folder", "check the path")
    lacking = {layout.name: layout.missing(root) for layout in LAYOUTS}
    for layout in LAYOUTS:
        if not lacking[layout.name]:
            if layout is mvtec.AD and not mvtec.has_usual_folders(root):
                _refuse_labels(root)
            return layout
    inside = [path.name for path in folders_in(root) if _is_product(path)]
    if inside:
        names = ", ".join(inside[:5]) + (", ..." if len(inside) > 5 else "")
        raise DataError(root, f"holds products: {names}", "name them in its place")
    _refuse_labels(root)
    near = min(reversed(LAYOUTS), key=lambda layout: len(lacking[layout.name]) / len(layout.parts))
    lacks = " and ".join(lacking[near.name])
    reason = f"is not in a layout that is read; the nearest is {near.name}, and it lacks {lacks}"
    remedy = "add it, or give a folder of images and one of masks by --images and --masks"
    raise DataError(root, reason, remedy)


def _refuse_labels(root: Path) -> None:
    """Raise DataError for a folder of labels, which names the command that reads them."""
    if (root / "annotations" / "instances.json").is_file():
        remedy = f"give what pipeline convert-masks {root} writes"
        raise DataError(root, "holds COCO labels, and no product", remedy)
    if found := foreign_format(root):
        raise found.refusal(root, "holds no masks of pixels but")


def _is_product(folder: Path) -> bool:
    return not mvtec.AD.missing(folder) or not mvtec.AD2.missing(folder)


def read_products(
    products: Sequence[Path],
    faults: Faults,
    allow_outside: bool = False,
    needs_masks: bool = True,
    layout: Layout | None = None,
) -> Dataset:
    """List the images of one or several folders, each in a layout of its own. Of each image only
    the size is read; of masks the pixels where only they tell whether an image is good.

    Categories are sorted. Records are numbered from 1 in a fixed order. The `file_name` of a record
    is unique over all products. Raises DataError for a missing folder, an image without mask, a
    mask without image, an empty defect folder, a broken file, a link that leads outside its product
    (unless `allow_outside`), a name that is not Unicode, and equal names. `faults` decides which of
    them are skipped. needs_masks: False also takes a defective image without mask, and looks at no
    mask without image. layout: of all folders; without it, each is recognised.
    """
    records: list[ImageRecord] = []
    for product in products:
        form = layout or recognise(product)
        search = Search(product, NamedFolders([product], allow_outside), faults, needs_masks)
        own = records_of(form.listed(search), search, product.resolve().name)
        records += _with_splits(own) if form.keeps_splits else own
    if not records:
        raise DataError(
            products[0], "holds no usable image", f"expected {_parts(layout or mvtec.AD)}"
        )
    return as_dataset(records, faults)


def _with_splits(records: list[ImageRecord]) -> list[ImageRecord]:
    """The records with the split of their source, where it has several."""
    splits = {record.source_split for record in records}
    if len(splits) < 2 or not splits <= set(SPLITS):
        return records
    return [replace(record, split=record.source_split) for record in records]


def _parts(layout: Layout) -> str:
    return ", ".join(layout.parts)
