"""The rows of COCO files of any origin, each checked with pydantic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NotRequired

from pydantic import BeforeValidator, ConfigDict, JsonValue, TypeAdapter
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from pipeline.errors import DataError
from pipeline.formats.json_rows import JsonRows, Rows
from pipeline.formats.schema import FileName, Id, Name, Number, Side, Text, checked_size
from pipeline.formats.shard_index import ShardedRows, is_index
from pipeline.io.read import checked, shown_value

LISTS = ("images", "annotations", "categories")
PARQUET = ".parquet"  # the suffix of COCO as Parquet, see `parquet`


Key = Id | Name  # COCO's ids are whole numbers; some tools write names
JsonKey = str | int | float | tuple[str, str] | None  # of files that are not checked yet
_NO_SIDE = BeforeValidator(lambda value: None if value == 0 else value)
_NO_BOX = BeforeValidator(lambda value: None if value == [] else value)


class CocoImage(TypedDict):
    """An image. The keys after `width` are this pipeline's own. Without height or width, they are
    read from the photo."""

    id: Key
    file_name: FileName
    height: NotRequired[Annotated[Side | None, _NO_SIDE]]
    width: NotRequired[Annotated[Side | None, _NO_SIDE]]
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
    finder: NotRequired[object]


_IMAGE = TypeAdapter(CocoImage)
_CATEGORY = TypeAdapter(CocoCategory)
_ROW = TypeAdapter(CocoRow)


def coco_lists(path: Path) -> Rows:
    """The lists of a COCO file, of COCO as Parquet, of the index of shards of either, or of a file
    that should be one. Raises DataError, and ConfigError for Parquet without pyarrow."""
    if path.suffix.lower() == PARQUET:
        from pipeline.formats.parquet_rows import ParquetRows

        return ParquetRows(path)
    raw = JsonRows(path, LISTS)
    return ShardedRows(path, coco_lists) if is_index(path) and "shards" in raw.values else raw


def open_coco(path: Path, needed: Sequence[str] = LISTS) -> Rows:
    """COCO instances, see `coco_lists`. Raises DataError for a file without the lists that are
    `needed`. Annotations may be absent or null, as in the lists of test images."""
    raw = coco_lists(path)
    missing = [name for name in needed if not raw.has(name)]
    if missing == ["annotations"] and raw.values.get("annotations") is None:
        return raw
    if missing:
        reason = f"is not COCO instances JSON: it has no list {', '.join(missing)}"
        raise DataError(path, reason, f"it needs the lists {', '.join(needed)}")
    return raw


def coco_rows(raw: Rows, name: str) -> Iterator[JsonValue]:
    """The entries of a list, which may not be there."""
    return raw.rows(name) if raw.has(name) else iter(())


def refuse_other_annotations(path: Path, entry: JsonValue) -> None:
    """Raise DataError for an annotation of COCO panoptic or COCO captions."""
    if not isinstance(entry, dict) or "category_id" in entry:
        return
    if "segments_info" in entry:
        reason = "is COCO panoptic: its masks are in PNG files, which are not read"
        raise DataError(path, reason, "convert it to COCO instances (panopticapi)")
    if "caption" in entry:
        raise DataError(path, "is COCO captions, which have no objects", "give the instances")


def with_name(entry: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    """An image's entry. Without `file_name`, it is that of `coco_url`, as in LVIS."""
    url = entry.get("coco_url")
    if entry.get("file_name") is not None or not isinstance(url, str):
        return entry
    return {**entry, "file_name": url}


def coco_categories(path: Path, raw: Rows) -> list[CocoCategory]:
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
    """An entry of the images, see `with_name`. number: from 1. Raises DataError."""
    where = place_of("image", entry, number)
    image = checked(_IMAGE, with_name(entry) if isinstance(entry, dict) else entry, path, where)
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
