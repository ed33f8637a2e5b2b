"""Label Studio's tasks, annotations and results; pydantic checks each value.

All lengths are in percent of the image. A key that is not named here is ignored.
"""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from pipeline.formats.schema import Number, Side, Text


def _only(value: object) -> object:
    """The one value of a list of one: `toName` of a control is a list."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


Byte = Annotated[int, Field(strict=True, ge=0, le=255)]


class Rectangle(TypedDict):
    """x, y: its top left corner, about which it is turned clockwise by `rotation` degrees."""

    x: Number
    y: Number
    width: Number
    height: Number
    rotation: NotRequired[Number | None]


class Ellipse(TypedDict):
    """x, y: its centre, about which it is turned clockwise by `rotation` degrees."""

    x: Number
    y: Number
    radiusX: Number
    radiusY: Number
    rotation: NotRequired[Number | None]


class Polygon(TypedDict):
    """Its points; a polygon that is not `closed` was left unfinished."""

    points: list[tuple[Number, Number]]
    closed: NotRequired[bool | None]


class Brush(TypedDict):
    """A brush stroke, as bytes of rle-pack; see `rle_pack`."""

    rle: list[Byte]


class Bitmask(TypedDict):
    """A drawing as large as the image: a PNG in base64, transparent where nothing is drawn."""

    imageDataURL: Text


class Row(TypedDict):
    """A result: a region, a label of a region, or an answer about the task.

    to_name: the tag of the labeling interface that shows the image. item_index: the page, for a
    task with several.
    """

    id: NotRequired[Text | None]
    type: Annotated[Text, AfterValidator(str.lower)]
    to_name: NotRequired[Annotated[Text | None, BeforeValidator(_only)]]
    value: NotRequired[dict[str, object] | None]
    original_height: NotRequired[Side | None]
    original_width: NotRequired[Side | None]
    score: NotRequired[Number | None]
    item_index: NotRequired[Annotated[int, Field(ge=0)] | None]


class User(TypedDict):
    """Who made an annotation."""

    id: NotRequired[Text | None]
    email: NotRequired[Text | None]
    username: NotRequired[Text | None]


class ResultSet(TypedDict):
    """An annotation, a draft or a prediction: the results of one person or model for a task.

    was_cancelled, skipped: the person gave the task up. score: of a prediction as a whole.
    """

    id: NotRequired[Text | None]
    result: NotRequired[list[object] | None]
    completed_by: NotRequired[User | Text | None]
    was_cancelled: NotRequired[bool | None]
    skipped: NotRequired[bool | None]
    ground_truth: NotRequired[bool | None]
    score: NotRequired[Number | None]


class Task(TypedDict):
    """A task. completions: the annotations before version 1.0. predictions, drafts: some exports
    have their ids alone."""

    data: dict[str, object]
    annotations: NotRequired[list[ResultSet] | None]
    completions: NotRequired[list[ResultSet] | None]
    predictions: NotRequired[list[ResultSet | int] | None]
    drafts: NotRequired[list[ResultSet | int] | None]


TASK = TypeAdapter(Task)
ROW = TypeAdapter(Row)
RECTANGLE = TypeAdapter(Rectangle)
ELLIPSE = TypeAdapter(Ellipse)
POLYGON = TypeAdapter(Polygon)
BRUSH = TypeAdapter(Brush)
BITMASK = TypeAdapter(Bitmask)
LABELS = TypeAdapter(list[Text])
