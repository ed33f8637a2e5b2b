"""COCO's annotations, of any tool, as a `Dataset`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.formats.coco_batches import PlainRows, batches
from pipeline.formats.coco_columns import read_columns
from pipeline.formats.coco_listing import Listing, Size
from pipeline.formats.coco_others import OtherRows
from pipeline.formats.coco_regions import regions
from pipeline.formats.coco_schema import CocoRow, Key
from pipeline.formats.image_objects import CLIPPED
from pipeline.formats.packed_rows import PackedRows
from pipeline.formats.source import SourceLog
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes, xywh_to_xyxy
from pipeline.geometry.masks import Rle, bounding_boxes, from_box
from pipeline.runtime.garbage import paused_collection
from pipeline.types import CROWD, Dataset, Detections


def read_annotations(
    path: Path, rows: Iterable[JsonValue], listing: Listing, log: SourceLog, exact: bool = False
) -> Dataset:
    """The annotations of a file on the images of a listing. exact: as in `coco.read_coco`. Raises
    DataError."""
    objects = {}
    with paused_collection():
        packed, converted = _packed(path, rows, listing, log)
        for place, read in packed.by_image(record.id for record in listing.records):
            record = listing.records[place]
            own = read if exact else regions(read, record.size, log, converted[record.id])
            try:
                objects[record.id] = detections(own, listing.label_of, record.size, log, exact)
            except ValueError as error:
                reason = f"image {record.id}: {error}"
                raise DataError(path, reason, "correct its annotations") from error
    return Dataset(listing.categories, listing.records, objects)


def _packed(
    path: Path, rows: Iterable[JsonValue], listing: Listing, log: SourceLog
) -> tuple[PackedRows, Counter[int]]:
    """The annotations that are kept, and by record those that were counted as another shape."""
    packed, reader = PackedRows(), _Annotations(path, listing, log)
    for image, row in reader.with_masks(rows):
        packed.add(image, row)
    return packed, reader.converted


def detections(
    rows: Sequence[CocoRow],
    label_of: Mapping[Key, int],
    size: tuple[int, int],
    log: SourceLog | None = None,
    has_crowds: bool = False,
) -> Detections:
    """The objects of one image from its rows, whose segmentations are RLE. size: (height, width).
    has_crowds: `iscrowd` becomes a column where one is 1. Raises ValueError naming a key."""
    if not rows:
        return Detections.none()
    masks = [cast(Rle | None, row.get("segmentation")) or None for row in rows]
    boxes = xywh_to_xyxy(as_boxes([row.get("bbox") or (0, 0, 0, 0) for row in rows]))
    boxless = [row for row, entry in enumerate(rows) if not entry.get("bbox")]
    boxes[boxless] = bounding_boxes([mask for row in boxless if (mask := masks[row])])
    pairs = zip(masks, boxes, strict=True)
    drawn = tuple(mask or from_box(box, *size) for mask, box in pairs) if any(masks) else None
    scores = [score for row in rows if (score := row.get("score")) is not None]
    if log and 0 < len(scores) < len(rows):
        log.note("scores that not all objects of an image have are left out")
    columns = read_columns(rows)
    if log and "keypoints" not in columns.attributes and any("keypoints" in row for row in rows):
        log.note("keypoints beside outlines and boxes are not kept")
    crowds = np.array([row.get("iscrowd") == 1 for row in rows]) if has_crowds else np.zeros(0)
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
        finders=columns.finders,
        attributes={**columns.attributes, CROWD: crowds} if crowds.any() else columns.attributes,
    )


class _Annotations:
    """Checks the annotations of a file, and draws their outlines.

    converted: by record, the annotations that were counted as another shape.
    """

    def __init__(self, path: Path, listing: Listing, log: SourceLog) -> None:
        self._listing, self._log, self._sizes = listing, log, listing.sizes()
        self._others = OtherRows(path, listing, self._sizes, log)
        self.converted = Counter[int]()

    def with_masks(self, rows: Iterable[JsonValue]) -> Iterator[tuple[int, CocoRow]]:
        """The annotations that are kept, with the id of their record; each segmentation becomes its
        RLE, at once: text is longer."""
        image_of = self._listing.image_of
        sizes = cast(Mapping[object, Size | None], self._sizes)
        plain = PlainRows(sizes, self._listing.label_of)
        number = 0
        for batch in batches(rows):
            for row, drawn in zip(batch, plain.draw(batch), strict=True):
                number += 1
                to = ""
                if drawn:
                    kept: CocoRow | None = cast(CocoRow, row)
                    to = CLIPPED if id(row) in plain.clipped else ""
                else:
                    kept, to = self._others.read(cast(JsonValue, row), number)
                if kept is not None:
                    image = cast(int, image_of[kept["image_id"]])
                    if to:
                        self._count(image, kept, to)
                    yield image, kept

    def _count(self, image: int, row: CocoRow, to: str) -> None:
        """Count an annotation that became another shape, if it has any pixel."""
        if not mask_geometry.area(cast(Rle, row["segmentation"])):
            return
        self.converted[image] += 1
        self._log.convert("polygon" if to == CLIPPED else "turned box", to)
