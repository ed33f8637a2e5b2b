"""MVTec AD's layout: train/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png.

Bergmann et al., "MVTec AD", CVPR 2019.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.errors import ConfigError, DataError, Faults
from pipeline.images import list_images, read_mask, read_size
from pipeline.progress import track
from pipeline.types import GOOD, Dataset, ImageRecord, Mask

_LAYOUT = "expected <product>/test/<defect>/*.png (and train/good, ground_truth/<defect>)"


def read_mvtec(products: Sequence[Path], faults: Faults) -> Dataset:
    """List the images of one or several product folders; no pixel is read but the sizes.

    Categories are the defect kinds, sorted; records are numbered from 1 in a fixed order; each
    record's `file_name` is unique over all products. Raises DataError for a missing folder, an
    image without mask, a mask without image, an empty class, a broken or EXIF-rotated file and
    equal names; `faults` decides which of them can be passed over.
    """
    records: list[ImageRecord] = []
    for product in products:
        records += _read_product(product, faults)
    if not records:
        raise DataError(products[0], "holds no usable image", _LAYOUT)
    _refuse_equal_names(records, faults)
    categories = sorted({record.defect for record in records} - {GOOD})
    numbered = tuple(replace(record, id=index + 1) for index, record in enumerate(records))
    return Dataset(tuple(categories), numbered)


def read_defect_mask(record: ImageRecord) -> Mask | None:
    """The mask of a record, None for a good image. Raises DataError when the sizes differ."""
    if record.mask_path is None:
        return None
    mask = read_mask(record.mask_path)
    if mask.shape != record.size:
        height, width = mask.shape
        raise DataError(
            record.mask_path,
            f"is {width}x{height} but its image {record.path.name} is "
            f"{record.width}x{record.height}",
            "draw the mask on the image it belongs to",
        )
    return mask


def read_defect_masks(
    dataset: Dataset, faults: Faults
) -> Iterator[tuple[ImageRecord, Mask | None]]:
    """Each record with its mask, None for a good image; a mask that is at fault is passed over
    with its record, if `faults` allows it."""
    for record in track(dataset.records, "read masks"):
        try:
            mask = read_defect_mask(record)
        except DataError as error:
            faults.add(error)
            continue
        yield record, mask


def group_by(dataset: Dataset, pattern: str) -> Dataset:
    """Give each record the group that `pattern` finds in its file stem (its first parenthesis).

    Pictures of one group never straddle a split. Raises ConfigError for a pattern that is no
    regular expression with a parenthesis, DataError for a stem where it finds nothing.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--group-by {pattern!r} is not a regular expression: {error}") from None
    if expression.groups < 1:
        raise ConfigError(f"--group-by {pattern!r} needs a parenthesis around the group's name")
    grouped = []
    for record in dataset.records:
        found = expression.search(record.path.stem)
        if found is None or found.group(1) is None:
            raise DataError(
                record.path, f"--group-by {pattern!r} finds no group", "widen the pattern"
            )
        grouped.append(replace(record, group=f"{record.product}/{found.group(1)}"))
    return replace(dataset, records=tuple(grouped))


def _read_product(product: Path, faults: Faults) -> list[ImageRecord]:
    if not product.is_dir():
        raise DataError(product, "no such folder", "check the path")
    if not (product / "test").is_dir():
        raise DataError(product, "is not in MVTec layout: no test folder", _LAYOUT)
    _refuse_masks_without_image(product, faults)
    records = []
    for split in ("train", "test"):
        if (product / split).is_dir():
            for folder in sorted(path for path in (product / split).iterdir() if path.is_dir()):
                records += _read_folder(product, split, folder, faults)
    return records


def _read_folder(product: Path, split: str, folder: Path, faults: Faults) -> list[ImageRecord]:
    images = list_images(folder)
    if not images:
        faults.add(DataError(folder, "holds no image", "remove the folder or fill it"))
    records = []
    for path in images:
        try:
            height, width = read_size(path)
            mask_path = None if folder.name == GOOD else _mask_of(product, path)
        except DataError as error:
            faults.add(error)
            continue
        name = product.resolve().name
        records.append(
            ImageRecord(
                id=0,
                path=path,
                file_name=f"{name}_{split}_{folder.name}_{path.name}",
                height=height,
                width=width,
                product=name,
                split=split,
                defect=folder.name,
                mask_path=mask_path,
                group=f"{name}/{split}/{folder.name}/{path.stem}",
            )
        )
    return records


def _mask_of(product: Path, image: Path) -> Path:
    folder = product / "ground_truth" / image.parent.name
    for name in (f"{image.stem}_mask.png", f"{image.stem}.png"):
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        image, f"has no mask {folder / (image.stem + '_mask.png')}", "draw one, or move the image"
    )


def _refuse_masks_without_image(product: Path, faults: Faults) -> None:
    root = product / "ground_truth"
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        images = product / "test" / folder.name
        stems = {path.stem for path in list_images(images)} if images.is_dir() else set()
        for mask in list_images(folder):
            if mask.stem.removesuffix("_mask") not in stems and mask.stem not in stems:
                faults.add(
                    DataError(mask, f"has no image in {images}", "add its image or remove it")
                )


def _refuse_equal_names(records: list[ImageRecord], faults: Faults) -> None:
    seen: dict[str, ImageRecord] = {}
    for record in list(records):
        key = Path(record.file_name).stem
        if key in seen:
            other = seen[key].path
            records.remove(record)
            faults.add(DataError(record.path, f"has the same name as {other}", "rename one"))
        else:
            seen[key] = record
