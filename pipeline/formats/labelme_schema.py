"""LabelMe's files; pydantic checks each value."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NotRequired

from pydantic import JsonValue, TypeAdapter
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from pipeline.errors import DataError
from pipeline.formats.coco_forms import TEXT_NUMBERS, as_numbers
from pipeline.formats.schema import Number, Side, Text, checked_size
from pipeline.formats.source import SourceLog
from pipeline.formats.values import as_data_error
from pipeline.io.read import checked, read_json

Point = tuple[Number, Number]
_PNG = b"\x89PNG\r\n\x1a\n"


class LabelMeShape(TypedDict):
    """One shape. label, points: None or missing in a shape that is left out. mask: a PNG in base64,
    for a shape of type `mask`. direction, score, difficult: X-AnyLabeling's; a value of another
    type means nothing."""

    label: Text | None
    points: NotRequired[list[Point] | None]
    shape_type: NotRequired[str | None]
    group_id: NotRequired[int | str | None]
    mask: NotRequired[str | None]
    direction: NotRequired[object]
    score: NotRequired[object]
    difficult: NotRequired[object]


class LabelMeFile(TypedDict):
    """A file, without the copy of the image that it may contain. LabelMe 3 wrote no sides. With
    an imagePath of None, the photo has the name of the file."""

    shapes: list[LabelMeShape]
    imagePath: Text | None
    imageHeight: NotRequired[Side | None]
    imageWidth: NotRequired[Side | None]


_FILE = TypeAdapter(LabelMeFile)


def read_labelme_file(path: Path, log: SourceLog) -> LabelMeFile | None:
    """Read a LabelMe file; None for another JSON file, and for a faulty one whose fault is kept.
    log: takes the fault, and notes points that are text. Raises DataError for what is no JSON."""
    raw = read_json(path)
    if not isinstance(raw, dict) or "shapes" not in raw:
        return None
    shapes = raw["shapes"]
    _mend_points(shapes, path, log)
    try:
        content = checked(_FILE, raw, path, "is not a LabelMe file:")
        with as_data_error(path, "", "correct it"):
            checked_size(content.get("imageHeight") or 1, content.get("imageWidth") or 1)
    except DataError as error:
        log.image_fault(path.name, error, len(shapes) if isinstance(shapes, list) else 0)
        return None
    return content


def _mend_points(shapes: JsonValue, path: Path, log: SourceLog) -> None:
    """Set coordinates that are text to their numbers, as scripts write them."""
    for number, shape in enumerate(shapes if isinstance(shapes, list) else ()):
        points = shape.get("points") if isinstance(shape, dict) else None
        if isinstance(shape, dict) and (better := as_numbers(points)) != points:
            shape["points"] = better
            text = f"points with {TEXT_NUMBERS}: read as they are meant"
            log.note(text, f"{path.name} shapes[{number}]")


def refuse_large_png(data: bytes, height: int, width: int) -> None:
    """Raise ValueError for data that is not a PNG, and for a PNG larger than an image (height,
    width). Only the header is read."""
    if not data.startswith(_PNG) or len(data) < 24:
        raise ValueError("a mask is not a PNG")
    own_width, own_height = struct.unpack_from(">II", data, 16)
    if own_width > width or own_height > height:
        raise ValueError(f"a mask of {own_width}x{own_height} on an image of {width}x{height}")
