"""Annotations of COCO files that are not in COCO's own form: checked one by one, read by what they
mean, or named with their fault."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.formats.coco_batches import has_own_angle, rotation_of
from pipeline.formats.coco_forms import (
    FIVE,
    has_five,
    is_line,
    key_in,
    note_forms,
    usual_form,
)
from pipeline.formats.coco_listing import Listing, Size
from pipeline.formats.coco_masks import refuse_far, segmentation_rle
from pipeline.formats.coco_schema import (
    CocoRow,
    Key,
    checked_row,
    place_of,
    refuse_other_annotations,
)
from pipeline.formats.image_objects import CLIPPED, ROUNDED
from pipeline.formats.source import SourceLog
from pipeline.geometry.masks import encode_patches
from pipeline.geometry.shapes import box_of_ring, draw_convex, rectangle_ring
from pipeline.io.read import shown_value

MASK = "mask"  # what a turned box is converted to


class OtherRows:
    """Reads annotations one by one."""

    def __init__(
        self, path: Path, listing: Listing, sizes: Mapping[Key, Size | None], log: SourceLog
    ) -> None:
        """sizes: as `Listing.sizes` gives them."""
        self._path, self._listing, self._sizes, self._log = path, listing, sizes, log

    def read(self, entry: JsonValue, number: int) -> tuple[CocoRow | None, str]:
        """An annotation whose segmentation is its RLE, and what it was converted to: "" for
        nothing. None for one that is left out, or faulty."""
        where = place_of("annotation", entry, number)
        refuse_other_annotations(self._path, entry)
        if isinstance(entry, dict):
            entry, kinds = usual_form(entry)
            note_forms(kinds, where, self._log.note)
        try:
            return self._read(entry, where)
        except DataError as error:
            self._log.object_fault("annotation", f"{self._path.name} {where}", error)
        return None, ""

    def _read(self, entry: JsonValue, where: str) -> tuple[CocoRow | None, str]:
        if isinstance(entry, dict) and has_five(entry.get("bbox")):
            remedy = "write x, y, width and height; a turned box as an outline"
            raise DataError(self._path, f"{where}: bbox {FIVE}", remedy)
        row = checked_row(self._path, entry, where)
        if not row.get("segmentation") and has_own_angle(cast(dict[str, object], row)):
            self._log.note("boxes with an angle of their own, which COCO has not, are read as if "
                           "they were not turned", where)  # fmt: skip
        self._find_keys(row, where)
        size = self._sizes[row["image_id"]]
        if size is None:
            self._log.leave_out("annotation", "its image is faulty", where)
            return None, ""
        if is_line(cast(dict[str, JsonValue], row)):
            self._log.leave_out("line", "it has no area", f"{self._path.name} {where}")
            return None, ""
        try:
            to = _draw(row, size)
        except ValueError as error:
            remedy = "correct it; pipeline validate names all such faults"
            raise DataError(self._path, f"{where}: {error}", remedy) from error
        if row["segmentation"] or row.get("bbox"):
            return row, to
        kind = "keypoints" if "keypoints" in row else "annotation"
        self._log.leave_out(kind, "has no outline and no box", f"{self._path.name} {where}")
        return None, ""

    def _find_keys(self, row: CocoRow, where: str) -> None:
        """Set the ids of the image and the category as the file lists them. Raises DataError."""
        image = key_in(row["image_id"], self._listing.image_of)
        category = key_in(row["category_id"], self._listing.label_of)
        if image is None or category is None:
            keys = shown_value(row["image_id"]), shown_value(row["category_id"])
            reason = f"{where} names image {keys[0]} or category {keys[1]}"
            raise DataError(self._path, f"{reason}, which the file does not hold", "remove it")
        row["image_id"], row["category_id"] = image, category


def _draw(row: CocoRow, size: Size) -> str:
    """Replace the segmentation of a row by its RLE. Returns what the row was converted to. Raises
    ValueError."""
    segmentation = row.get("segmentation")
    if isinstance(segmentation, list):
        segmentation = [ring for ring in segmentation if ring != []]
    turned = rotation_of(cast(dict[str, object], row))
    if not segmentation and row.get("bbox") and turned:
        return _draw_turned(row, turned, size)
    row["segmentation"] = segmentation_rle(segmentation, size) if segmentation else None
    return CLIPPED if isinstance(segmentation, list) and _is_outside(segmentation, size) else ""


def _draw_turned(row: CocoRow, degrees: float, size: Size) -> str:
    """As `_draw`, for a box that is turned about its centre, as CVAT writes it."""
    x, y, width, height = row["bbox"] or (0, 0, 0, 0)
    ring = rectangle_ring((x, y), (width, height), degrees, (x + width / 2, y + height / 2))
    row["segmentation"] = None
    if box := box_of_ring(ring):
        row["bbox"] = (box[0], box[1], box[2] - box[0], box[3] - box[1])
        return ""
    refuse_far(ring, size)
    row["segmentation"] = encode_patches([draw_convex(ring, *size)], *size)[0]
    row["bbox"] = None
    return MASK


def _is_outside(rings: list[list[float]], size: Size) -> bool:
    """Whether a polygon has a point outside the image."""
    points = np.array([value for ring in rings for value in ring]).reshape(-1, 2)
    return bool(np.maximum(-points, points - (size[1], size[0])).max(initial=0) > ROUNDED)
