"""COCO's annotations, of any tool, as a `Dataset`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.formats.coco_batches import PlainRows, batches
from pipeline.formats.coco_columns import read_columns
from pipeline.formats.coco_listing import Listing
from pipeline.formats.coco_masks import segmentation_rle
from pipeline.formats.coco_schema import CocoRow, Key, checked_row, place_of
from pipeline.formats.source import SourceLog
from pipeline.geometry.boxes import as_boxes, xywh_to_xyxy
from pipeline.geometry.masks import Rle, bounding_boxes, from_box
from pipeline.runtime.garbage import paused_collection
from pipeline.types import Dataset, Detections


def read_annotations(
    path: Path, rows: Iterable[JsonValue], listing: Listing, log: SourceLog
) -> Dataset:
    """The annotations of a file on the images of a listing. Raises DataError."""
    by_image: dict[int, list[CocoRow]] = defaultdict(list)
    objects = {}
    with paused_collection():
        for image, row in _Annotations(path, listing, log).with_masks(rows):
            by_image[image].append(row)
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


class _Annotations:
    """Checks the annotations of a file, and draws their outlines."""

    def __init__(self, path: Path, listing: Listing, log: SourceLog) -> None:
        self._path, self._listing, self._log = path, listing, log
        self._sizes = {record.id: record.size for record in listing.records}

    def with_masks(self, rows: Iterable[JsonValue]) -> Iterator[tuple[int, CocoRow]]:
        """The annotations that are kept, with the id of their record; each segmentation becomes its
        RLE, at once: text is longer."""
        image_of = self._listing.image_of
        sizes = {
            key: None if image is None else self._sizes[image] for key, image in image_of.items()
        }
        plain = PlainRows(cast(Mapping[object, tuple[int, int]], sizes), self._listing.label_of)
        number = 0
        for batch in batches(rows):
            for row, drawn in zip(batch, plain.draw(batch), strict=True):
                number += 1
                if drawn:
                    kept: CocoRow | None = cast(CocoRow, row)
                else:
                    kept = self._checked(cast(JsonValue, row), number)
                if kept is not None:
                    yield cast(int, image_of[kept["image_id"]]), kept

    def _checked(self, entry: JsonValue, number: int) -> CocoRow | None:
        """An annotation with its mask; None for one that is left out, or faulty."""
        where = place_of("annotation", entry, number)
        try:
            row = checked_row(self._path, entry, where)
            key = row["image_id"]
            if (
                key not in self._listing.image_of
                or row["category_id"] not in self._listing.label_of
            ):
                reason = f"{where} names image {key} or category {row['category_id']}"
                raise DataError(self._path, f"{reason}, which the file does not hold", "remove it")
            image = self._listing.image_of[key]
            if image is None:
                self._log.leave_out("annotation", "its image is faulty", where)
                return None
            try:
                has_shape = _draw(row, self._sizes[image])
            except ValueError as error:
                remedy = "correct it; pipeline validate names all such faults"
                raise DataError(self._path, f"{where}: {error}", remedy) from error
        except DataError as error:
            self._log.fault(error)
            return None
        if has_shape:
            return row
        kind = "keypoints" if "keypoints" in row else "annotation"
        self._log.leave_out(kind, "has no outline and no box", f"{self._path.name} {where}")
        return None


def _draw(row: CocoRow, size: tuple[int, int]) -> bool:
    """Replace the segmentation of a row by its RLE; returns whether the row has an outline or a
    box. Raises ValueError."""
    segmentation = row.get("segmentation")
    if isinstance(segmentation, list):
        if segmentation and all(isinstance(value, (int, float)) for value in segmentation):
            segmentation = [segmentation]  # one flat ring in place of a list of rings
        segmentation = [ring for ring in segmentation if ring != []]
    row["segmentation"] = segmentation_rle(segmentation, size) if segmentation else None
    return bool(row["segmentation"] or row.get("bbox"))
