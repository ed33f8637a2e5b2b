"""Rows of a session: how a set becomes rows, and how an object's row follows its value."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.coco_columns import json_number
from pipeline.geometry.boxes import as_boxes
from pipeline.review.actions import Suggestion
from pipeline.review.schema import (
    ACCEPTED,
    ADDED,
    CHANGED,
    FINDER,
    PERSON,
    REJECTED,
    UNREVIEWED,
)
from pipeline.review.source import StartingLabels
from pipeline.review.values import Key, ObjectValue, Value, object_value
from pipeline.types import EXPECTED_IOU, FINDERS, PROBABILITY, Detections, ImageRecord

_RECORD_KEYS = ("product", "source_split", "defect", "group", "split")
_OBJECT = "INSERT INTO objects VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FOLLOW = (
    "UPDATE objects SET value = ?, revision = ?, category = ?, state = ?, x0 = ?, y0 = ?, x1 = ?, "
    "y1 = ? WHERE id = ?"
)


def state_code(original: str | None, value: ObjectValue | None) -> int | None:
    """The code of an object's state, see `schema`; None for one that does not exist. original: the
    JSON of the value in the labels; None for one that a person added."""
    if value is None:
        return None
    if value.state == "rejected":
        return REJECTED
    if is_unjudged(value) and original is not None:
        return UNREVIEWED
    if original is None:
        return ADDED
    before = ObjectValue.model_validate_json(original)
    same = (before.category, before.counts, before.box) == (value.category, value.counts, value.box)
    if not same:
        return CHANGED
    return ACCEPTED


def is_unjudged(value: Value) -> bool:
    """Whether it is an object that no person has judged."""
    return isinstance(value, ObjectValue) and value.state == "unreviewed"


def insert_new(
    database: sqlite3.Connection, image: int, objects: Sequence[Suggestion | None]
) -> list[Key]:
    """Rows of new objects on an image, which have no value yet; None for one that a person adds."""
    (last,) = database.execute("SELECT COALESCE(MAX(id), 0) FROM objects").fetchone()
    query = (
        "INSERT INTO objects (id, image, original, figures, revision, expected_iou, probability, "
        "score) VALUES (?, ?, ?, ?, 0, ?, ?, ?)"
    )
    keys = [Key("object", last + 1 + number) for number in range(len(objects))]
    for key, one in zip(keys, objects, strict=True):
        original = one.value.model_dump_json() if one else None
        found = dict(one.figures) if one else {}
        known = (found.get(EXPECTED_IOU), found.get(PROBABILITY), found.get("score"))
        text = _figures_text(found, one.finder if one else "")
        database.execute(query, (key.id, image, original, text, *known))
    return keys


def insert_labels(database: sqlite3.Connection, labels: StartingLabels, root: Path) -> None:
    """The rows of all images and objects. Objects keep the ids of their annotations where no two
    have the same. root: the folder of the images. Raises DataError for an image outside it."""
    dataset = labels.dataset
    database.executemany(
        "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'unreviewed', 0)",
        (
            (r.id, r.file_name, _place(r, root), r.height, r.width, _record(r),
             labels.missed.get(r.id), labels.anomaly.get(r.id))
            for r in dataset.records
        ),
    )  # fmt: skip
    numbers = _numbers([dataset.on(record) for record in dataset.records])
    for record, ids in zip(dataset.records, numbers, strict=True):
        database.executemany(_OBJECT, _object_rows(record, dataset.on(record), ids))


def follow(
    database: sqlite3.Connection, id_: int, value: ObjectValue | None, revision: int
) -> None:
    """Give an object's row its value after an action."""
    (original,) = database.execute("SELECT original FROM objects WHERE id = ?", (id_,)).fetchone()
    text = value.model_dump_json() if value else None
    category = value.category if value else None
    box = value.box if value else (None,) * 4
    code = state_code(original, value)
    database.execute(_FOLLOW, (text, revision, category, code, *box, id_))


def _place(record: ImageRecord, root: Path) -> str:
    """Where an image is, relative to the folder of the images."""
    if not record.path.is_relative_to(root):
        raise DataError(record.path, f"lies outside {root}", "name its folder with --images")
    return record.path.relative_to(root).as_posix()


def _record(record: ImageRecord) -> str:
    return json.dumps({key: value for key in _RECORD_KEYS if (value := getattr(record, key))})


def _numbers(groups: list[Detections]) -> list[list[int]]:
    """The id of each object of each image."""
    own = [[] if g.ids is None else [int(i) for i in g.ids] for g in groups]
    flat = [number for ids in own for number in ids]
    total = sum(map(len, groups))
    if len(set(flat)) == total and all(0 < number < 2**53 for number in flat):
        return own
    counts = iter(range(1, total + 1))
    return [[next(counts) for _ in range(len(group))] for group in groups]


def _object_rows(
    record: ImageRecord, objects: Detections, ids: list[int]
) -> Iterator[tuple[object, ...]]:
    for row, id_ in enumerate(ids):
        counts = None if objects.masks is None else objects.masks[row]["counts"].decode("ascii")
        x0, y0, x1, y1 = (round(float(side), 3) for side in as_boxes(objects.boxes[row])[0])
        value = ObjectValue(
            category=int(objects.labels[row]), state="unreviewed", counts=counts,
            box=(x0, y0, x1, y1),
        )  # fmt: skip
        text = value.model_dump_json()
        found = figures_of(objects, row)
        known = (found.get(EXPECTED_IOU), found.get(PROBABILITY), found.get("score"))
        yield (id_, record.id, text, text, _figures_text(found, finder_at(objects, row)), *known,
               value.category, UNREVIEWED, *value.box)  # fmt: skip


def _figures_text(figures: Mapping[str, float], finder: str) -> str:
    """The JSON of an object's figures, with its finder where that is known."""
    return json.dumps({**figures, **({FINDER: finder} if finder else {})}, sort_keys=True)


def finder_at(objects: Detections, row: int) -> str:
    """Who found an object; "" where it is not known."""
    return objects.finders[row] if objects.finders else ""


def figures_of(objects: Detections, row: int) -> dict[str, float]:
    """The quality columns of an object, and its score."""
    columns = dict(objects.quality)
    if objects.scores is not None:
        columns["score"] = objects.scores
    found = {name: column[row] for name, column in columns.items()}
    return {name: float(json_number(v, 6)) for name, v in found.items() if np.isfinite(v)}


@dataclass(frozen=True)
class SavedImage:
    """An image of a session. place: relative to the folder of the images. missed: the probability
    that it lacks a label; anomaly: its anomaly score; None if unknown."""

    id: int
    file_name: str
    place: str
    height: int
    width: int
    state: str
    revision: int
    missed: float | None
    anomaly: float | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width


@dataclass(frozen=True)
class SavedObject:
    """An object of a session. original: as the labels have it. figures: its quality columns. code:
    of its state, see `schema`. finder: one of `types.FINDERS`; "" where it is not known."""

    id: int
    image: int
    original: ObjectValue | None
    value: ObjectValue | None
    figures: dict[str, float]
    revision: int
    code: int | None
    finder: str = ""


def saved_object(row: tuple[object, ...]) -> SavedObject:
    """An object from its row. Raises ValueError for one that is damaged."""
    id_, image, original, value, figures, revision, code = row
    content = json.loads(str(figures))
    if not isinstance(content, dict):
        raise ValueError(f"object {id_} has figures that are no mapping")
    numbers = {
        name: float(number) for name, number in content.items() if isinstance(number, (int, float))
    }
    return SavedObject(
        int(str(id_)),
        int(str(image)),
        object_value(None if original is None else str(original)),
        object_value(None if value is None else str(value)),
        numbers,
        int(str(revision)),
        None if code is None else int(str(code)),
        PERSON if original is None else found if (found := content.get(FINDER)) in FINDERS else "",
    )
