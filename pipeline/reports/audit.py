"""What an audit found: a table, a page of close-ups, and labels to correct in other tools."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.coco import write_coco
from pipeline.formats.distinct_names import with_portable_names
from pipeline.formats.registry import FORMATS
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes
from pipeline.geometry.masks import Rle
from pipeline.io.write import write_text
from pipeline.metrics.label_errors.ranking import Suspect
from pipeline.reports.close_ups import CloseUp, write_close_ups
from pipeline.types import Dataset, Detections, ImageRecord

REVIEW_FORMATS = ("coco", "cvat", "label-studio", "labelme")
PAGE, TABLE, SUGGESTIONS = "audit.html", "suspects.csv", "suggestions.json"
QUALITY = "label_quality"  # the column of the labels to correct: 1 less the suspicion
_COLUMNS = ("rank", "suspicion", "kind", "image", "category", "suggestion", "x", "y", "width",
            "height")  # fmt: skip


def write_table(path: Path, listed: Sequence[Suspect], dataset: Dataset) -> None:
    """A row for each suspect: its box in pixels, and the category that is predicted."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for rank, one in enumerate(listed, start=1):
        x0, y0, x1, y1 = (round(float(value)) for value in _box(one, dataset))
        rows.writerow(
            [
                rank, f"{one.suspicion:.4f}", one.kind, one.record.file_name,
                _name(one.category, dataset), _name(one.suggestion, dataset),
                x0, y0, x1 - x0, y1 - y0,
            ]
        )  # fmt: skip
    write_text(path, text.getvalue())


def write_page(path: Path, listed: Sequence[Suspect], dataset: Dataset, of: int) -> None:
    """Close-ups of suspects, in their order. They are outlined: a tint would hide what is in doubt.
    of: how many there are in all. Raises DataError for an image that cannot be read."""
    shown = []
    for one in listed:
        rather = f", rather {_name(one.suggestion, dataset)}" if one.suggestion is not None else ""
        category = [f"{_name(one.category, dataset)}{rather}"] if one.category is not None else []
        notes = [*category, one.record.file_name]
        box = _box(one, dataset)
        outline = _mask(one, dataset)
        suspicion = f"{one.suspicion:.2f}"
        shown.append(CloseUp(one.record, box, suspicion, one.kind, notes, outlined=outline))
    text = (
        f"{len(listed)} of {of} labels and suggestions, the most suspicious first. The outline is "
        "that of the label, or, for a missed defect, of what is predicted to be one."
    )
    write_close_ups(path, "Labels to check", text, shown)


def write_review(folder: Path, listed: Sequence[Suspect], dataset: Dataset) -> None:
    """The images of suspects, the most suspicious first, with their labels, in the formats of four
    tools; and the missed defects that are suggested as a COCO file."""
    records = tuple({one.record.id: one.record for one in listed}.values())
    if not records:
        return
    subset = replace(dataset.subset(records), objects=_with_quality(records, dataset, listed))
    for name in REVIEW_FORMATS:
        form = FORMATS[name]
        portable = with_portable_names(subset, form.is_by_stem)
        form.write(folder / "review" / name, portable, False, 0.0)
    missed = [one for one in listed if one.mask is not None]
    objects = {
        record.id: _suggested([one for one in missed if one.record.id == record.id])
        for record in records
    }
    write_coco(folder / SUGGESTIONS, Dataset(dataset.categories, records, objects))


def _with_quality(
    records: Sequence[ImageRecord], dataset: Dataset, listed: Sequence[Suspect]
) -> dict[int, Detections]:
    """The objects of some images with the column `label_quality`."""
    suspicion = {(one.record.id, one.row): one.suspicion for one in listed}
    objects = {}
    for record in records:
        own = dataset.on(record)
        values = [1 - suspicion.get((record.id, row), 0.0) for row in range(len(own))]
        objects[record.id] = replace(own, quality={QUALITY: np.array(values, np.float32)})
    return objects


def _suggested(missed: Sequence[Suspect]) -> Detections:
    masks = tuple(one.mask for one in missed if one.mask is not None)
    return Detections(
        mask_geometry.bounding_boxes(masks),
        np.array([one.category for one in missed], np.int64),
        np.array([one.suspicion for one in missed], np.float32),
        masks,
    )


def _mask(one: Suspect, dataset: Dataset) -> Rle:
    """The mask of a suspect; an empty one for an image without a mask."""
    if one.mask is not None:
        return one.mask
    masks = dataset.on(one.record).masks
    if one.row is not None and masks:
        return masks[one.row]
    return mask_geometry.encode(np.zeros(one.record.size, bool))


def _box(one: Suspect, dataset: Dataset) -> NDArray[np.float32]:
    """The box (4,) xyxy of a suspect; the whole image for an image without a mask."""
    if one.mask is None and one.row is None:
        box = as_boxes([[0, 0, one.record.width, one.record.height]])[0]
    else:
        box = mask_geometry.bounding_boxes([_mask(one, dataset)])[0]
    return np.asarray(box, np.float32)


def _name(category: int | None, dataset: Dataset) -> str:
    return "" if category is None else dataset.categories[category]
