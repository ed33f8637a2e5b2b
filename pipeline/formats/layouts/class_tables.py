"""Tables of categories beside masks: `_classes.csv` of Roboflow, with a pixel value and a name in
each row, and `class_dict.csv` of other sets, with a name and a colour."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.layouts.listing import entries
from pipeline.formats.layouts.tables import rows_of
from pipeline.io.mask_files import COLOUR

Values = tuple[tuple[int, str], ...]
TABLES = ("_classes.csv", "class_dict.csv")
LABEL_MAP = "labelmap.txt"  # CVAT's, which `label_maps` reads
_VALUE = ("pixel value", "value", "label id", "id")
_NAME = ("class", "name", "class name", "category", "label")
_COLOUR = (("r", "g", "b"), ("red", "green", "blue"))
_BACKGROUND = {"background", "_background_", "void", "unlabelled", "unlabeled", "bg", "none", ""}
_MOST = 255  # of a value and of a channel


def table_in(folder: Path, names: Collection[str] = TABLES) -> Path | None:
    """The table of categories in a folder; None for none."""
    return next((path for path in entries(folder) if path.name.lower() in names), None)


def has_categories(text: str) -> bool:
    """Whether a text is such a table, by its first line."""
    columns = _columns(text.partition("\n")[0].split(","))
    return "name" in columns and len(columns) > 1


def values_of(table: Path) -> Values:
    """The category of each pixel value or colour, as `read_label_values` has it; "" for background.
    A grey colour is that value too. Raises DataError for another table, for a name of the value 0
    or of black that is no background, and for two names of a value."""
    names: dict[int, str] = {}
    for shown, value, name in _rows(table):
        if value in names:
            raise DataError(table, f"names {shown} twice", "remove one")
        is_background = name.lower() in _BACKGROUND
        if value & ~COLOUR == 0 and not is_background:
            reason = f"calls {shown} {name!r}, but what is black in a mask is background"
            raise DataError(table, reason, "give the category another value, in the masks too")
        names[value] = "" if is_background else name
    names = {value: name for value, name in with_greys(names).items() if value & ~COLOUR}
    if not any(names.values()):
        raise DataError(table, "names no category", "write a pixel value and a name in each row")
    return tuple(sorted(names.items()))


def with_greys(names: Mapping[int, str]) -> dict[int, str]:
    """The names, where a grey colour is also a value: a mask of grey alone has no colours."""
    greys = {
        value & 0xFF: name
        for value, name in names.items() if value == COLOUR | (value & 0xFF) * 0x010101
    }  # fmt: skip
    return {**greys, **names}


def _rows(table: Path) -> Iterator[tuple[str, int, str]]:
    """Each row: its value as text, as a number, and the name. Raises DataError."""
    columns: Mapping[str, str] | None = None
    for row in rows_of(table, ()):
        columns = columns if columns is not None else _columns(list(row))
        if "name" not in columns or len(columns) == 1:
            reason = "has no column Pixel Value, and none of r, g and b, beside that of the names"
            raise DataError(table, reason, "check that it is the right file")
        yield *_value(row, columns, table), row[columns["name"]].strip()


def _value(row: Mapping[str, str], columns: Mapping[str, str], table: Path) -> tuple[str, int]:
    texts = [row[columns[key]].strip() for key in ("value", "r", "g", "b") if key in columns]
    shown = ",".join(texts)
    if any(not text.isdecimal() or int(text) > _MOST for text in texts):
        raise DataError(table, f"{shown!r} is no pixel value", f"write 0 to {_MOST}")
    numbers = [int(text) for text in texts]
    if "value" in columns:
        return f"pixel value {shown}", numbers[0]
    return f"colour {shown}", COLOUR | numbers[0] << 16 | numbers[1] << 8 | numbers[2]


def _columns(header: list[str]) -> dict[str, str]:
    """The columns that are used, by what they hold: name, and value or r, g and b."""
    own = {name.strip().lower(): name.strip() for name in header}
    found = {"name": name} if (name := _first(own, _NAME)) else {}
    for channels in _COLOUR:
        if own.keys() >= {*channels}:
            return found | dict(zip("rgb", (own[key] for key in channels), strict=True))
    return found | ({"value": value} if (value := _first(own, _VALUE)) else {})


def _first(own: Mapping[str, str], keys: Iterable[str]) -> str | None:
    return next((own[key] for key in keys if key in own), None)
