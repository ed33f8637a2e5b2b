"""COCO's lists in two Parquet files, read and written in batches of bounded size.

`images.parquet` has a row for each image, and `annotations.parquet` one for each object. Every key
of COCO is a column; `other` is JSON of the keys that have none, and `category` is the name of
`category_id`, for people. What a row does not have is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import JsonValue

from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco_rows import JsonRow, json_line
from pipeline.formats.json_rows import Rows
from pipeline.io.read import open_regular, unreadable
from pipeline.io.write import whole_file

_IMAGES, _OBJECTS = "images", "annotations"
_GROUP, _BATCH = 1 << 14, 1 << 10  # rows that are written, and read, together
_GROUP_LIMIT = 1 << 30  # bytes of a row group of another tool
_EXACT = 1 << 53  # whole numbers up to here are exact as float64
_META = b"coco"  # the key of the file's own JSON: the categories
_OTHER, _NAME = "other", "category"
_BOX, _MASK = "bbox", "segmentation"
_COLUMNS: Mapping[str, Mapping[str, str]] = {
    _IMAGES: {
        "id": "whole", "file_name": "text", "height": "whole", "width": "whole",
        "product": "text", "source_split": "text", "defect": "text", "group": "text",
        "split": "text",
    },
    _OBJECTS: {
        "id": "whole", "image_id": "whole", "category_id": "whole", _BOX: "box",
        "area": "number", "iscrowd": "whole", _MASK: "mask", "score": "number",
        "expected_iou": "number", "probability": "number", "finder": "text",
        "prompt_id": "whole", "prompt_box": "box", "failed": "flag",
    },
}  # fmt: skip


class ParquetRows:
    """The lists of COCO in `images.parquet` and `annotations.parquet`, of which `path` is one.

    Raises DataError where one is missing or is no Parquet, and ConfigError without pyarrow.
    """

    is_list = False

    def __init__(self, path: Path) -> None:
        self._paths = {name: _sibling(path, name) for name in (_IMAGES, _OBJECTS)}
        self.values: dict[str, JsonValue] = {}
        self._categories: list[JsonValue] = []
        for place in self._paths.values():
            with _opened(place) as file:
                text = (file.schema_arrow.metadata or {}).get(_META)
            if text is not None:
                self._categories = _categories(place, text)
        if not self._categories:
            self._categories = self._named()

    def has(self, name: str) -> bool:
        """Whether there is a list of this name."""
        return name in {*self._paths, "categories"}

    def rows(self, name: str = "") -> Iterator[JsonValue]:
        """The entries of a list, with the keys in order. Raises DataError."""
        if name == "categories":
            yield from self._categories
            return
        path, columns = self._paths[name], _COLUMNS[name]
        for number, row in enumerate(_read(path, [*columns, _OTHER]), start=1):
            more = _other(path, number, row.pop(_OTHER, None))
            own = {key: _plain(value, columns[key]) for key, value in row.items()}
            known = {key: value for key, value in own.items() if value is not None}
            yield dict(sorted({**more, **known}.items()))

    def _named(self) -> list[JsonValue]:
        """The categories that the objects name, of a file that another tool wrote again."""
        names: dict[int, JsonValue] = {}
        for row in _read(self._paths[_OBJECTS], ["category_id", _NAME]):
            key = _plain(row.get("category_id"), "whole")
            if isinstance(key, int):
                names.setdefault(key, row.get(_NAME) or str(key))
        return [{"id": key, "name": name} for key, name in sorted(names.items())]


def json_rows(raw: Rows, name: str) -> Iterator[JsonRow]:
    """The entries of a list that are JSON objects."""
    yield from (row for row in raw.rows(name) if isinstance(row, dict))


def write_tables(
    folder: Path,
    images: Iterable[JsonRow],
    rows: Iterable[JsonRow],
    categories: Sequence[JsonValue],
    mark: str = "",
) -> tuple[Path, Path]:
    """Write `images.parquet` and `annotations.parquet` with COCO's entries, 16,384 rows in memory.

    mark: follows the names of the files. Returns both paths. Raises DataError for a file that
    cannot be written, and ConfigError without pyarrow.
    """
    paths = folder / f"{_IMAGES}{mark}.parquet", folder / f"{_OBJECTS}{mark}.parquet"
    _write(paths[0], _IMAGES, images, categories)
    _write(paths[1], _OBJECTS, rows, categories)
    return paths


def _write(path: Path, name: str, rows: Iterable[JsonRow], categories: Sequence[JsonValue]) -> None:
    arrow, parquet = _pyarrow()
    about = json.dumps({"categories": categories}, sort_keys=True, ensure_ascii=False)
    schema = _schema(arrow, name).with_metadata({_META: about.encode()})
    names = {each["id"]: each["name"] for each in categories if isinstance(each, dict)}
    with (
        whole_file(path) as temporary,
        parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        left = iter(rows)
        while group := list(islice(left, _GROUP)):
            table = [_row(row, _COLUMNS[name]) for row in group]
            if name == _OBJECTS:
                for row in table:
                    row[_NAME] = names.get(row.get("category_id"))
            writer.write_table(arrow.Table.from_pylist(table, schema))


def _row(row: JsonRow, columns: Mapping[str, str]) -> JsonRow:
    """An entry by columns."""
    known = {key: value for key, value in row.items()
             if key in columns and _FITS[columns[key]](value)}  # fmt: skip
    more = {key: value for key, value in row.items() if key not in known}
    return {**known, _OTHER: json_line(more) if more else None}


def _schema(arrow: ModuleType, name: str) -> Any:
    """The types of the columns."""
    of_type = {
        "whole": arrow.int64(), "number": arrow.float64(), "text": arrow.string(),
        "flag": arrow.bool_(), "box": arrow.list_(arrow.float64()),
        "mask": arrow.struct({"size": arrow.list_(arrow.int64()), "counts": arrow.string()}),
    }  # fmt: skip
    columns = {key: of_type[kind] for key, kind in _COLUMNS[name].items()}
    if name == _OBJECTS:
        columns[_NAME] = arrow.string()
    return arrow.schema({**columns, _OTHER: arrow.string()})


def _read(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a file, with those of the columns that it has. Raises DataError."""
    with _opened(path) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        if not there:
            raise DataError(path, f"has no column {columns[0]}", "give what export wrote")
        for batch in file.iter_batches(_BATCH, columns=there, use_threads=False):
            yield from batch.to_pylist()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A Parquet file of bounded row groups. Every fault of reading becomes one line."""
    arrow, parquet = _pyarrow()
    with open_regular(path) as stream:
        try:
            with parquet.ParquetFile(stream) as file:
                groups = range(file.metadata.num_row_groups)
                most = max((file.metadata.row_group(k).total_byte_size for k in groups), default=0)
                if most > _GROUP_LIMIT:
                    reason = f"has a row group of {most} bytes, more than {_GROUP_LIMIT}"
                    raise DataError(path, reason, "write it with smaller ones")
                yield file
        except (arrow.ArrowException, ValueError, OverflowError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                path, f"is not readable Parquet ({reason})", "export it again"
            ) from error
        except OSError as error:
            raise unreadable(path, error) from error


def _sibling(path: Path, name: str) -> Path:
    """The file of a list beside that of the other. Raises DataError for another name."""
    for known in (_IMAGES, _OBJECTS):
        if path.name.startswith(known):
            return path.with_name(name + path.name.removeprefix(known))
    reason = "is neither images.parquet nor annotations.parquet"
    raise DataError(path, reason, "give one of the two files that export wrote, side by side")


def _categories(path: Path, text: bytes) -> list[JsonValue]:
    """The categories of a file's own JSON. Raises DataError."""
    content = _parsed(path, text)
    listed = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise DataError(path, "has no list of categories", "export it again")
    return listed


def _other(path: Path, number: int, text: object) -> JsonRow:
    """The keys without a column. Raises DataError."""
    if text is None:
        return {}
    content = _parsed(path, text)
    if not isinstance(content, dict):
        raise DataError(path, f"row {number}: `{_OTHER}` is no JSON object", "export it again")
    return content


def _parsed(path: Path, text: object) -> Any:
    try:
        return json.loads(text if isinstance(text, (str, bytes)) else "")
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"holds what is not JSON ({error})", "export it again") from error


def _plain(value: Any, kind: str) -> Any:
    """A value as JSON has it: whole numbers without a point. None for NaN, as pandas writes what is
    not there."""
    if isinstance(value, list) and kind == "box":
        return [_plain(each, "number") for each in value]
    if isinstance(value, dict) and kind == "mask":
        return {"counts": value.get("counts"), "size": value.get("size")}
    if isinstance(value, float) and kind in {"whole", "number"}:
        if math.isnan(value):
            return None
        return int(value) if value.is_integer() else value
    return value


def _is_whole(value: JsonValue) -> bool:
    return type(value) is int and value.bit_length() <= 63


def _is_number(value: JsonValue) -> bool:
    if type(value) is int:
        return abs(value) <= _EXACT
    return isinstance(value, float) and math.isfinite(value)


def _is_box(value: JsonValue) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_mask(value: JsonValue) -> bool:
    if not isinstance(value, dict) or value.keys() != {"counts", "size"}:
        return False
    size = value["size"]
    is_text = isinstance(value["counts"], str)
    return is_text and isinstance(size, list) and all(map(_is_whole, size))


_FITS: Mapping[str, Callable[[JsonValue], bool]] = {
    "whole": _is_whole,
    "number": _is_number,
    "text": lambda value: isinstance(value, str),
    "flag": lambda value: isinstance(value, bool),
    "box": _is_box,
    "mask": _is_mask,
}


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    """pyarrow and its Parquet. Raises ConfigError."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(
            'Parquet: pyarrow is not installed; pip install -e ".[parquet]", or write coco'
        ) from error
    return pyarrow, parquet
