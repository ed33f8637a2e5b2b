"""The keys of a COCO annotation beyond COCO's own, as columns of `Detections` and back.

`failed`, `prompt_id`, `prompt_box` and `finder` are keys of this pipeline. Numbers from 0 to 1 are
quality columns. All other numbers of a foreign file are kept as attributes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipeline.formats.coco_schema import CocoRow
from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.io.read import shown_value
from pipeline.types import FINDERS, Detections

_STANDARD = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "score"}
_IGNORED = _STANDARD | {"annotation_id"}  # never written: it would repeat `id`
_NO_COLUMNS: Mapping[str, Any] = {}  # one for all: a set may have millions of images
_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class ObjectColumns:
    """The columns of one image's annotations; each field is that of `Detections`."""

    quality: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    failed: NDArray[np.bool_] | None = None
    ids: NDArray[np.int64] | None = None
    prompt_ids: NDArray[np.int64] | None = None
    prompt_boxes: Boxes | None = None
    finders: tuple[str, ...] | None = None
    attributes: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


def read_columns(rows: Sequence[CocoRow]) -> ObjectColumns:
    """The keys that all annotations of an image have as numbers. Raises ValueError naming a key
    whose numbers are not finite as float32."""
    columns = _number_columns(rows)
    return ObjectColumns(
        failed=_popped_flags(columns, "failed"),
        ids=np.array([row["id"] for row in rows]) if all("id" in row for row in rows) else None,
        prompt_ids=_popped_ids(columns, "prompt_id"),
        prompt_boxes=_popped_boxes(columns, "prompt_box"),
        finders=_finders(rows),
        quality={name: column.astype(np.float32) for name, column in columns.items()
                 if _is_quality(column)} or _NO_COLUMNS,
        attributes={name: column for name, column in columns.items()
                    if not _is_quality(column)} or _NO_COLUMNS,
    )  # fmt: skip


def written_columns(objects: Detections) -> dict[str, list[JsonValue]]:
    """What `read_columns` reads: for each key its value of every object, as JSON has it; None
    for one without."""
    columns: dict[str, NDArray[np.generic]] = {**objects.attributes, **objects.quality}
    if objects.failed is not None:
        columns["failed"] = objects.failed
    if objects.prompt_ids is not None:
        columns["prompt_id"] = objects.prompt_ids
    if objects.prompt_boxes is not None:
        columns["prompt_box"] = objects.prompt_boxes
    written = {name: [_written(value) for value in column] for name, column in columns.items()}
    if objects.finders is not None:
        written["finder"] = [name or None for name in objects.finders]
    return written


def json_number(value: object, digits: int = 3) -> bool | int | float:
    """A number of numpy or Python as one of JSON: a whole one without a point, another one
    rounded."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    number = round(float(cast(float, value)), digits)
    return int(number) if number.is_integer() else number


def number_column(values: Sequence[object]) -> NDArray[np.generic] | None:
    """Numbers, or lists of equally many numbers, as a column (N, ...); None for anything else.
    Raises ValueError for numbers that are not finite as float32."""
    first = values[0]
    if isinstance(first, list):
        size = len(first)
        if not all(isinstance(value, list) and len(value) == size for value in values):
            return None
        flat: list[object] = [number for value in values if isinstance(value, list)
                              for number in value]  # fmt: skip
    else:
        flat = list(values)
    if not all(isinstance(number, (bool, int, float)) for number in flat):
        return None
    if any(isinstance(number, int) and number.bit_length() > 63 for number in flat):
        return None
    column = np.array(values)
    if column.dtype.kind != "f":
        return column
    if not all(math.fabs(float(number)) <= _FLOAT32 for number in flat):  # type: ignore[arg-type]
        raise ValueError("should be a finite number on every object of an image")
    return column.astype(np.float32)


def _number_columns(rows: Sequence[CocoRow]) -> dict[str, NDArray[np.generic]]:
    columns: dict[str, NDArray[np.generic]] = {}
    for name in sorted(set.intersection(*(set(row) for row in rows)) - _IGNORED):
        try:
            column = number_column([cast(Mapping[str, object], row)[name] for row in rows])
        except ValueError as error:
            raise ValueError(f"{shown_value(name)} {error}") from error
        if column is not None:
            columns[name] = column
    return columns


def _is_quality(column: NDArray[np.generic]) -> bool:
    """Whether a column (N, ...) is one number from 0 to 1 for each object."""
    if column.ndim != 1 or column.dtype.kind not in "if":
        return False
    numbers = column.astype(np.float64)
    return bool(((numbers >= 0) & (numbers <= 1)).all())


def _popped_flags(columns: dict[str, NDArray[np.generic]], name: str) -> NDArray[np.bool_] | None:
    if name not in columns or columns[name].dtype.kind != "b" or columns[name].ndim != 1:
        return None
    return columns.pop(name).astype(np.bool_)


def _popped_ids(columns: dict[str, NDArray[np.generic]], name: str) -> NDArray[np.int64] | None:
    if name not in columns or columns[name].dtype.kind != "i" or columns[name].ndim != 1:
        return None
    return columns.pop(name).astype(np.int64)


def _popped_boxes(columns: dict[str, NDArray[np.generic]], name: str) -> Boxes | None:
    if name not in columns or columns[name].dtype.kind not in "if":
        return None
    return as_boxes(columns.pop(name)) if columns[name].shape[1:] == (4,) else None


def _finders(rows: Sequence[CocoRow]) -> tuple[str, ...] | None:
    """Who found each object, where that is known of any."""
    found = [row.get("finder") for row in rows]
    names = tuple(name if isinstance(name, str) and name in FINDERS else "" for name in found)
    return names if any(names) else None


def _written(value: NDArray[np.generic] | np.generic) -> JsonValue:
    if np.ndim(value):
        return [json_number(one) for one in np.asarray(value)]
    return json_number(value, 6)
