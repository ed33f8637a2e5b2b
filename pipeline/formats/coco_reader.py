"""COCO's images and annotations, of any tool, as a `Dataset`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import cast

import numpy as np
from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.formats.coco_columns import read_columns
from pipeline.formats.coco_masks import segmentation_rle
from pipeline.formats.coco_schema import (
    CocoImage,
    CocoRow,
    Key,
    coco_categories,
    coco_images,
    coco_rows,
    place_of,
)
from pipeline.formats.image_names import ImageFinder
from pipeline.formats.json_rows import JsonRows
from pipeline.formats.source import SourceLog
from pipeline.geometry.boxes import as_boxes, xywh_to_xyxy
from pipeline.geometry.masks import Rle, bounding_boxes, from_box
from pipeline.io.images import read_size
from pipeline.types import GOOD, Dataset, Detections, ImageRecord


@dataclass(frozen=True)
class Listing:
    """The images and categories that the annotations of a file refer to.

    label_of: label by category id. image_of: id of the record by the image's id in the file; two
    entries of one photo have one record, and a faulty image has None.
    """

    categories: tuple[str, ...]
    label_of: Mapping[Key, int]
    records: tuple[ImageRecord, ...]
    image_of: Mapping[Key, int | None]

    def by_name(self) -> Listing:
        """The same, where an image may also be named by its file name or its stem, if no other
        image has it."""
        names = Counter[str]()
        ids: dict[Key, int] = {}
        for record in self.records:
            name = PurePosixPath(record.file_name)
            for key in dict.fromkeys((str(name), name.name, name.stem)):
                names[key] += 1
                ids[key] = record.id
        unique = {key: number for key, number in ids.items() if names[str(key)] == 1}
        return replace(self, image_of={**unique, **self.image_of})


def read_listing(path: Path, raw: JsonRows, images: Path | None, log: SourceLog) -> Listing:
    """The images and categories of a file. images: the folder of the images, which is searched for
    names of another machine; without it, the folder of `path`, which is not. Raises DataError."""
    categories = coco_categories(path, raw)
    finder = ImageFinder(images or path.parent, search=images is not None)
    records: list[ImageRecord] = []
    image_of: dict[Key, int | None] = {}
    by_name: dict[str, int] = {}
    numbers: set[int] = set()
    for entry in coco_images(path, raw):
        key = entry["id"]
        if key in image_of:
            raise DataError(path, "has two images with one id", "number the images again")
        try:
            record = _record(path, entry, finder)
        except DataError as error:
            log.fault(error)
            image_of[key] = None
            continue
        if record.file_name in by_name:
            log.note(f"{record.file_name} is listed twice: all objects are on one image")
        else:
            number = key if isinstance(key, int) else len(records) + 1
            while number in numbers:
                number += 1
            numbers.add(number)
            by_name[record.file_name] = number
            records.append(replace(record, id=number))
        image_of[key] = by_name[record.file_name]
    label_of = {entry["id"]: label for label, entry in enumerate(categories)}
    names = tuple(entry["name"] for entry in categories)
    return Listing(names, label_of, tuple(records), image_of)


def read_annotations(
    path: Path, rows: Iterator[JsonValue], listing: Listing, log: SourceLog
) -> Dataset:
    """The annotations of a file on the images of a listing. Raises DataError."""
    sizes = {record.id: record.size for record in listing.records}
    by_image: dict[int, list[CocoRow]] = defaultdict(list)
    for number, row in enumerate(coco_rows(path, rows, log), start=1):
        where = place_of("annotation", row, number)
        key = row["image_id"]
        if key not in listing.image_of or row["category_id"] not in listing.label_of:
            reason = f"{where} names image {key} or category {row['category_id']}"
            log.fault(DataError(path, f"{reason}, which the file does not hold", "remove it"))
            continue
        image = listing.image_of[key]
        if image is None:
            log.leave_out("annotation", "its image is faulty", where)
            continue
        try:
            kept = _with_mask(row, sizes[image], f"{path.name} {where}", log)
        except ValueError as error:
            remedy = "correct it; pipeline validate names all such faults"
            log.fault(DataError(path, f"{where}: {error}", remedy))
            continue
        if kept:
            by_image[image].append(row)
    objects = {}
    for record in listing.records:
        if record.id in by_image:
            try:
                objects[record.id] = detections(
                    by_image.pop(record.id), listing.label_of, record.size, log
                )
            except ValueError as error:
                reason = f"image {record.id}: {error}"
                raise DataError(path, reason, "correct its annotations") from error
    return Dataset(listing.categories, listing.records, objects)


def detections(
    rows: Sequence[CocoRow],
    label_of: Mapping[Key, int],
    size: tuple[int, int],
    log: SourceLog | None = None,
) -> Detections:
    """The objects of one image from its rows, whose segmentations are RLE. size: (height, width).
    Raises ValueError naming a key."""
    masks = [cast(Rle | None, row.get("segmentation")) or None for row in rows]
    boxes = xywh_to_xyxy(as_boxes([row.get("bbox") or (0, 0, 0, 0) for row in rows]))
    boxless = [row for row, entry in enumerate(rows) if not entry.get("bbox")]
    boxes[boxless] = bounding_boxes([mask for row in boxless if (mask := masks[row])])
    filled = masks.count(None) if any(masks) else 0
    if log:
        log.read(len(rows) - filled)
        log.convert("box among masks", "filled mask", filled)
    pairs = zip(masks, boxes, strict=True)
    drawn = tuple(mask or from_box(box, *size) for mask, box in pairs) if any(masks) else None
    scores = [score for row in rows if (score := row.get("score")) is not None]
    if log and 0 < len(scores) < len(rows):
        log.note("scores that not all objects of an image have are left out")
    columns = read_columns(rows)
    return Detections(
        boxes=boxes,
        labels=np.array([label_of[row["category_id"]] for row in rows], dtype=np.int64),
        scores=np.array(scores, dtype=np.float32) if len(scores) == len(rows) else None,
        masks=drawn,
        quality=columns.quality,
        failed=columns.failed,
        ids=columns.ids,
        prompt_ids=columns.prompt_ids,
        prompt_boxes=columns.prompt_boxes,
        attributes=columns.attributes,
    )


def _with_mask(row: CocoRow, size: tuple[int, int], where: str, log: SourceLog) -> bool:
    """Replace the segmentation of a row by its RLE, at once: text is longer. False for a row that
    is left out, because it has neither outline nor box. Raises ValueError."""
    segmentation = row.get("segmentation")
    if isinstance(segmentation, list):
        if segmentation and all(isinstance(value, (int, float)) for value in segmentation):
            segmentation = [segmentation]  # one flat ring in place of a list of rings
        segmentation = [ring for ring in segmentation if ring != []]
    row["segmentation"] = segmentation_rle(segmentation, size) if segmentation else None
    if row["segmentation"] or row.get("bbox"):
        return True
    kind = "keypoints" if "keypoints" in row else "annotation"
    log.leave_out(kind, "has no outline and no box", where)
    return False


def _record(path: Path, entry: CocoImage, finder: ImageFinder) -> ImageRecord:
    place, name = _placed(entry["file_name"], finder)
    defect = entry.get("defect")
    split, source_split = entry.get("split"), entry.get("source_split")
    if "part" in entry:  # 0.7 wrote `part` for the split, and `split` for the split of the source
        split, source_split = entry["part"], entry.get("split")
    height, width = entry.get("height"), entry.get("width")
    if not height or not width:
        try:
            height, width = read_size(place)
        except DataError as error:
            reason = f"image {entry['id']} has no height and width, and its photo is not readable"
            raise DataError(path, f"{reason} ({error})", "give its folder with --images") from error
    try:
        return ImageRecord(
            0, place, name, height, width,
            product=entry.get("product") or "",
            source_split=source_split or "",
            defect=GOOD if defect is None else defect,
            group=entry.get("group") or "",
            split=split or "",
        )  # fmt: skip
    except ValueError as error:
        raise DataError(
            path, f"image {entry['id']}: {error}", "name files below --images"
        ) from error


def _placed(name: str, finder: ImageFinder) -> tuple[Path, str]:
    """Path and name of an image; of one that is not there, those that the file gives."""
    whole = Path(name)
    if whole.is_absolute() and whole.is_relative_to(finder.root.resolve()):
        name = whole.relative_to(finder.root.resolve()).as_posix()
    return finder.find_or_none(name) or (finder.root / name, name)
