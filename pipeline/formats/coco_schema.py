"""The rows of COCO files of any origin, each checked with pydantic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NotRequired

from pydantic import BeforeValidator, ConfigDict, JsonValue, TypeAdapter
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from pipeline.errors import DataError
from pipeline.formats.json_rows import JsonRows
from pipeline.formats.schema import FileName, Id, Name, Number, Side, Text, checked_size
from pipeline.io.read import checked, shown_value

LISTS = ("images", "annotations", "categories")


Key = Id | Name  # COCO's ids are whole numbers; some tools write names
_NO_BOX = BeforeValidator(lambda value: None if value == [] else value)


class CocoImage(TypedDict):
    """An image. The keys after `width` are this pipeline's own. Without height or width, they are
    read from the photo."""

    id: Key
    file_name: FileName
    height: NotRequired[Side | None]
    width: NotRequired[Side | None]
    product: NotRequired[Text | None]
    source_split: NotRequired[Text | None]
    defect: NotRequired[Text | None]
    group: NotRequired[Text | None]
    split: NotRequired[Text | None]
    part: NotRequired[Text | None]  # `split` as 0.7 wrote it; its `split` was `source_split`


class CocoCategory(TypedDict):
    """A category."""

    id: Key
    name: Text


class CocoRow(TypedDict):
    """An annotation. Other keys stay in it, see `coco_columns`.

    bbox: without it, the box is that of the mask. segmentation: anything;
    `coco_masks.segmentation_rle` checks it.
    """

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    image_id: Key
    category_id: Key
    bbox: NotRequired[Annotated[tuple[Number, Number, Number, Number] | None, _NO_BOX]]
    id: NotRequired[Key | None]
    score: NotRequired[Number | None]
    segmentation: NotRequired[object]
    iscrowd: NotRequired[object]
    attributes: NotRequired[object]


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
    """The categories, in the order of their ids; in the file's order where one is a text. Raises
    DataError."""
    categories = [
        checked(_CATEGORY, entry, path, place_of("category", entry, number))
        for number, entry in enumerate(raw.rows("categories"), start=1)
    ]
    if all(isinstance(entry["id"], int) for entry in categories):
        return sorted(categories, key=lambda entry: int(entry["id"]))
    return categories


def coco_image(path: Path, entry: JsonValue, number: int) -> CocoImage:
    """An entry of the images. number: from 1. Without `file_name`, it is that of `coco_url`, as in
    LVIS. Raises DataError."""
    where = place_of("image", entry, number)
    if isinstance(entry, dict) and entry.get("file_name") is None:
        url = entry.get("coco_url")
        entry = {**entry, "file_name": url} if isinstance(url, str) else entry
    image = checked(_IMAGE, entry, path, where)
    height, width = image.get("height"), image.get("width")
    try:
        if height and width:
            checked_size(height, width)
    except ValueError as error:
        raise DataError(path, f"{where}: {error}", "correct it") from error
    return image


def checked_row(path: Path, entry: JsonValue, where: str) -> CocoRow:
    """An annotation. Raises DataError."""
    try:
        return checked(_ROW, entry, path, where)
    except DataError as error:
        raise DataError(path, error.reason, "correct it: pipeline validate --fix") from error


def place_of(kind: str, entry: object, number: int) -> str:
    """The name of an entry in a message: its id, or its number where it has no id."""
    key = entry.get("id") if isinstance(entry, dict) else None
    return f"{kind} number {number}" if key is None else f"{kind} {shown_value(key)}"
