"""MVTec AD's layout: train/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png.

Bergmann et al., "MVTec AD", CVPR 2019. BTAD and copies of VisA name a mask as its image, with any
suffix. MVTec LOCO has a folder of masks for each image (Bergmann et al., IJCV 2022).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.values import as_data_error
from pipeline.geometry.masks import decode, instances
from pipeline.io.image_copies import place_image
from pipeline.io.images import SUFFIXES, list_images, read_size, write_png
from pipeline.io.mask_files import read_mask_values
from pipeline.io.names import safe_component
from pipeline.io.read import is_junk
from pipeline.io.write import make_folder
from pipeline.types import GOOD, Dataset, Detections, ImageRecord, Mask

_LAYOUT = "expected <product>/test/<defect>/*.png (and train/good, ground_truth/<defect>)"


def read_mvtec(
    products: Sequence[Path],
    faults: Faults,
    allow_outside: bool = False,
    needs_masks: bool = True,
) -> Dataset:
    """List the images of one or several product folders. Of each image only the size is read.

    Categories are the names of the defect folders, sorted. Records are numbered from 1 in a fixed
    order. The `file_name` of a record is unique over all products. Raises DataError for a missing
    folder, an image without mask, a mask without image, an empty defect folder, a broken or
    EXIF-rotated file, a link that leads outside its product (unless `allow_outside`), a name that
    is not Unicode, and equal names. `faults` decides which of them are skipped. needs_masks: False
    also takes a defective image without mask, and looks at no mask without image.
    """
    records: list[ImageRecord] = []
    for product in products:
        records += _read_product(product, faults, allow_outside, needs_masks)
    if not records:
        raise DataError(products[0], "holds no usable image", _LAYOUT)
    _refuse_equal_names(records, faults)
    categories = sorted({record.defect for record in records} - {GOOD})
    records_with_ids = tuple(replace(record, id=index + 1) for index, record in enumerate(records))
    return Dataset(tuple(categories), records_with_ids)


def read_defect_values(record: ImageRecord) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
    """The values (H, W) of the mask file of an image, or the greatest of several files; None for an
    image without mask. Raises DataError when the sizes of mask and image differ."""
    if record.mask_path is None:
        return None
    if not record.mask_path.is_dir():
        return read_mask_values(record.mask_path, record.size, record.path.name)
    masks = [read_mask_values(path, record.size, record.path.name)
             for path in list_images(record.mask_path)]  # fmt: skip
    return np.asarray(np.maximum.reduce(masks))


def read_defect_mask(record: ImageRecord, threshold: int = 0) -> Mask | None:
    """The pixels (H, W) of the mask of an image that are above `threshold`; None for a good image.
    See `read_defect_values`."""
    values = read_defect_values(record)
    return None if values is None else np.asarray(values > threshold)


def read_mvtec_objects(product: Path, threshold: int = 0, allow_outside: bool = False) -> Dataset:
    """Read a product folder with the instances of its masks.

    The `file_name` of a record is the bare name of the file where these are all different. Raises
    DataError at the first fault.
    """
    listed = read_mvtec([product], Faults(), allow_outside)
    records, objects = [], {}
    unique = len({record.path.stem for record in listed.records}) == len(listed.records)
    for record in listed.records:
        mask = read_defect_mask(record, threshold)
        records.append(replace(record, file_name=record.path.name) if unique else record)
        if mask is not None:
            label = listed.categories.index(record.defect)
            objects[record.id] = Detections.from_masks(instances(mask)[0], label)
    return Dataset(listed.categories, tuple(records), objects)


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


def group_by(dataset: Dataset, pattern: str) -> Dataset:
    """Give each record a group: what the first parenthesis of `pattern` matches in its file stem.

    All images of one group go to the same split. Raises ConfigError for a pattern that is not a
    regular expression with a parenthesis, DataError for a stem without a match.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--group-by {pattern!r} is not a regular expression: {error}") from None
    if expression.groups < 1:
        raise ConfigError(f"--group-by {pattern!r} needs a parenthesis around the group's name")
    grouped = []
    for record in dataset.records:
        match = expression.search(record.path.stem)
        if match is None or match.group(1) is None:
            raise DataError(
                record.path, f"--group-by {pattern!r} finds no group", "widen the pattern"
            )
        grouped.append(replace(record, group=f"{record.product}/{match.group(1)}"))
    return replace(dataset, records=tuple(grouped))


def _read_product(
    product: Path, faults: Faults, allow_outside: bool, needs_masks: bool
) -> list[ImageRecord]:
    if not product.is_dir():
        raise DataError(product, "no such folder", "check the path")
    if not (product / "test").is_dir():
        raise DataError(product, "is not in MVTec layout: no test folder", _LAYOUT)
    inside = NamedFolders([product], allow_outside)
    if needs_masks:
        _refuse_masks_without_image(product, faults)
    records = []
    for split in ("train", "test"):
        for folder in _folders(product / split):
            try:
                inside.refuse_outside(folder)
                images = _images_in(folder)
            except DataError as error:
                faults.add(error)
                continue
            if not images:
                faults.add(DataError(folder, "holds no image", "remove the folder or fill it"))
            for path in images:
                try:
                    records.append(_read_image(product, split, path, inside, needs_masks))
                except DataError as error:
                    faults.add(error)
    return records


def _read_image(
    product: Path, split: str, path: Path, inside: NamedFolders, needs_masks: bool
) -> ImageRecord:
    defect = path.parent.name
    inside.refuse_outside(path)
    height, width = read_size(path)
    mask_path = None if defect == GOOD else _mask_of(product, path, inside)
    if needs_masks and defect != GOOD and mask_path is None:
        expected = product / "ground_truth" / defect / f"{path.stem}_mask.png"
        raise DataError(path, f"has no mask {expected}", "draw one, or move the image")
    name = product.resolve().name
    with as_data_error(path, "", "rename it"):
        return ImageRecord(
            id=0,
            path=path,
            file_name=f"{name}_{split}_{defect}_{path.name}",
            height=height,
            width=width,
            product=name,
            source_split=split,
            defect=defect,
            mask_path=mask_path,
            group=f"{name}/{split}/{defect}/{path.stem}",
        )


def _mask_of(product: Path, image: Path, inside: NamedFolders) -> Path | None:
    """The mask of an image, or LOCO's folder of its masks; None without any. Raises DataError for
    two masks."""
    folder = product / "ground_truth" / image.parent.name
    if (folder / image.stem).is_dir():
        masks = _images_in(folder / image.stem)
        for mask in masks:
            inside.refuse_outside(mask)
        return folder / image.stem if masks else None
    for stem in (f"{image.stem}_mask", image.stem):
        masks = [path for path in _with_stem(folder, stem) if path.is_file()]
        if len(masks) > 1:
            reason = f"has two masks, {masks[0].name} and {masks[1].name}"
            raise DataError(image, reason, "remove one")
        if masks:
            inside.refuse_outside(masks[0])
            return masks[0]
    return None


def _with_stem(folder: Path, stem: str) -> list[Path]:
    """The image files of a stem, of any suffix in small or capital letters."""
    names = [f"{stem}{suffix}" for suffix in sorted(SUFFIXES)]
    names += [f"{stem}{suffix.upper()}" for suffix in sorted(SUFFIXES)]
    return [folder / name for name in names if (folder / name).exists()]


def _folders(root: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    paths = root.glob("*") if root.is_dir() else iter(())
    return sorted(path for path in paths if not is_junk(path.name) and path.is_dir())


def _images_in(folder: Path) -> list[Path]:
    try:
        return list_images(folder)
    except OSError as error:
        raise DataError(folder, f"cannot be read ({error.strerror})", "check it") from error


def _refuse_masks_without_image(product: Path, faults: Faults) -> None:
    for folder in _folders(product / "ground_truth"):
        if folder.name == GOOD:
            continue  # some sets have empty masks of good images, in train too
        images = product / "test" / folder.name
        try:
            stems = {path.stem for path in _images_in(images)} if images.is_dir() else set()
            masks = _images_in(folder)
        except DataError as error:
            faults.add(error)
            continue
        for mask in masks:
            if mask.stem.removesuffix("_mask") not in stems and mask.stem not in stems:
                faults.add(
                    DataError(mask, f"has no image in {images}", "add its image or remove it")
                )


def _refuse_equal_names(records: list[ImageRecord], faults: Faults) -> None:
    by_stem: dict[str, ImageRecord] = {}
    for record in list(records):
        key = Path(record.file_name).stem
        if key in by_stem:
            other = by_stem[key].path
            records.remove(record)
            faults.add(DataError(record.path, f"has the same name as {other}", "rename one"))
        else:
            by_stem[key] = record
