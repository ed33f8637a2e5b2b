"""The set that a session makes of its labels, for `pipeline export`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, TypeAdapter, ValidationError

from pipeline.errors import DataError
from pipeline.formats.schema import FileName, Text
from pipeline.geometry.boxes import as_boxes
from pipeline.geometry.masks import Rle, from_box
from pipeline.io.names import leaves_its_folder
from pipeline.io.read import checked
from pipeline.review.history import histories
from pipeline.review.schema import REJECTED, UNREVIEWED
from pipeline.review.store import ReviewStore
from pipeline.review.tables import SavedObject
from pipeline.review.values import ObjectValue
from pipeline.types import Dataset, Detections, ImageRecord

REVIEWED = "reviewed"  # the column of objects that a person has judged
_NAME = TypeAdapter(FileName)
_RECORD = TypeAdapter(dict[str, Text])
_NO_NUMBER = float("nan")


@dataclass(frozen=True)
class Reviewed:
    """dataset: with the column `reviewed`, without what was rejected. history: by image id, the
    actions on each of its objects. rejected, reviewed: numbers of objects. finished: the ids of
    images that a person marked good or checked, or whose objects are all judged."""

    dataset: Dataset
    history: Mapping[int, Sequence[Sequence[JsonValue]]]
    rejected: int
    reviewed: int
    finished: frozenset[int]


def read_reviewed(store: ReviewStore, images: Path) -> Reviewed:
    """The set of a session. images: the folder of the images.

    An object that a person changed or added keeps no figure of its old mask. Raises DataError for a
    session whose content is not that of one.
    """
    done = histories(store.actions())
    records = image_records(store, images)
    objects: dict[int, Detections] = {}
    history: dict[int, Sequence[Sequence[JsonValue]]] = {}
    rejected = reviewed = 0
    finished = {image.id for image in store.images() if image.state != "unreviewed"}
    for record in records:
        rows = store.objects_on(record.id)
        kept = [row for row in rows if row.code != REJECTED]
        rejected += len(rows) - len(kept)
        reviewed += sum(row.code != UNREVIEWED for row in kept)
        if rows and all(row.code != UNREVIEWED for row in rows):
            finished.add(record.id)
        if kept:
            objects[record.id] = _detections(kept, record.size)
        history[record.id] = [done.get(row.id, []) for row in kept]
    dataset = Dataset(store.categories, tuple(records), objects)
    return Reviewed(dataset, history, rejected, reviewed, frozenset(finished))


def image_records(store: ReviewStore, root: Path) -> list[ImageRecord]:
    """The images of a session below a folder. Raises DataError for names that leave it."""
    records = []
    for image in store.images():
        ((text,),) = store.rows("SELECT record FROM images WHERE id = ?", image.id)
        try:
            name = _NAME.validate_python(image.file_name)
            if leaves_its_folder(image.place):
                raise ValueError(f"image {image.id} leads outside its folder")
            keys = checked(_RECORD, json.loads(str(text)), store.path, f"image {image.id}")
            record = ImageRecord(image.id, root / image.place, name, *image.size, **keys)  # type: ignore[arg-type]
        except (ValidationError, ValueError, TypeError) as error:
            reason = f"is damaged (image {image.id}: {str(error).splitlines()[0]})"
            raise DataError(store.path, reason, "put back a copy of it") from error
        records.append(record)
    return records


def _detections(rows: Sequence[SavedObject], size: tuple[int, int]) -> Detections:
    values = [row.value for row in rows if row.value]
    figures = [_own_figures(row) for row in rows]
    names = sorted({name for own in figures for name in own})
    columns = {name: _column(figures, name) for name in names}
    scores = columns.pop("score", None)
    return Detections(
        boxes=as_boxes([value.box for value in values]),
        labels=np.array([value.category for value in values], np.int64),
        scores=None if scores is None or np.isnan(scores).any() else scores,
        masks=_masks(values, size),
        quality=columns,
        finders=tuple(row.finder for row in rows if row.value),
        attributes={REVIEWED: np.array([row.code != UNREVIEWED for row in rows], np.bool_)},
    )


def _masks(values: Sequence[ObjectValue], size: tuple[int, int]) -> tuple[Rle, ...] | None:
    """The masks, with filled boxes among them; None where all are boxes alone."""
    rles = [value.rle(size) for value in values]
    if all(rle is None for rle in rles):
        return None
    pairs = zip(rles, values, strict=True)
    return tuple(rle or from_box(value.boxes[0], *size) for rle, value in pairs)


def _own_figures(row: SavedObject) -> Mapping[str, float]:
    """The figures of an object whose mask and category are those of the labels."""
    if row.original is None or row.value is None:
        return {}
    is_same = row.original.model_copy(update={"state": row.value.state}) == row.value
    return row.figures if is_same else {}


def _column(figures: Sequence[Mapping[str, float]], name: str) -> NDArray[np.float32]:
    return np.array([own.get(name, _NO_NUMBER) for own in figures], np.float32)
