"""COCO's rows as they are read from files that anybody may have written, each checked by kind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from pipeline.errors import DataError
from pipeline.formats.json_rows import JsonRows
from pipeline.formats.schema import FileName, Id, Number, Side, Text, checked_size
from pipeline.io.read import checked, shown_value

LISTS = ("images", "annotations", "categories")
_FLOAT32 = float(np.finfo(np.float32).max)


class CocoImage(TypedDict):
    """An image; the keys after `width` are this pipeline's own."""

    id: Id
    file_name: FileName
    height: Side
    width: Side
    product: NotRequired[Text | None]
    source_split: NotRequired[Text | None]
    defect: NotRequired[Text | None]
    group: NotRequired[Text | None]
    split: NotRequired[Text | None]
    part: NotRequired[Text | None]  # 0.7's name of `split`, whose own `split` was `source_split`


class CocoCategory(TypedDict):
    """A category."""

    id: Id
    name: Text


class CocoRow(TypedDict):
    """An annotation. Other keys are kept: numbers among them become quality columns.

    segmentation: `coco_masks.segmentation_rle` says what it may be.
    """

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    image_id: Id
    category_id: Id
    bbox: tuple[Number, Number, Number, Number]
    id: NotRequired[Id]
    score: NotRequired[Number]
    segmentation: NotRequired[object]


_IMAGE = TypeAdapter(CocoImage)
_CATEGORY = TypeAdapter(CocoCategory)
_ROW = TypeAdapter(CocoRow)


def open_coco(path: Path, needed: Sequence[str] = LISTS) -> JsonRows:
    """A COCO instances file. Raises DataError for one without the lists that are `needed`."""
    raw = JsonRows(path, LISTS)
    if not all(raw.has(name) for name in needed):
        reason = "is not COCO instances JSON"
        raise DataError(path, reason, f"it needs the lists {', '.join(needed)}")
    return raw


def coco_categories(path: Path, raw: JsonRows) -> list[CocoCategory]:
    """The categories, in the order of their ids. Raises DataError."""
    found = [
        checked(_CATEGORY, entry, path, place_of("category", entry, number))
        for number, entry in enumerate(raw.rows("categories"), start=1)
    ]
    return sorted(found, key=lambda entry: entry["id"])


def coco_images(path: Path, raw: JsonRows) -> Iterator[CocoImage]:
    """The images, in the file's order. Raises DataError."""
    for number, entry in enumerate(raw.rows("images"), start=1):
        where = place_of("image", entry, number)
        image = checked(_IMAGE, entry, path, where)
        try:
            checked_size(image["height"], image["width"])
        except ValueError as error:
            raise DataError(path, f"{where}: {error}", "mend it") from error
        yield image


def coco_rows(path: Path, rows: Iterator[Any]) -> Iterator[CocoRow]:
    """The annotations, in the file's order. Raises DataError."""
    for number, entry in enumerate(rows, start=1):
        try:
            yield _ROW.validate_python(entry)
        except ValueError:
            yield _explained(path, entry, place_of("annotation", entry, number))


def _explained(path: Path, entry: Any, where: str) -> CocoRow:
    try:
        return checked(_ROW, entry, path, where)
    except DataError as error:
        raise DataError(path, error.reason, "mend it: pipeline validate --fix") from error


def place_of(kind: str, entry: object, number: int) -> str:
    """An entry by its id, or by its number where it has none."""
    known = entry.get("id") if isinstance(entry, dict) else None
    return f"{kind} number {number}" if known is None else f"{kind} {shown_value(known)}"


def quality_column(values: Sequence[object]) -> NDArray[np.generic] | None:
    """Numbers, or lists of equally many numbers, as a column; None for anything else. Raises
    ValueError for numbers that are not finite as float32."""
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
