"""Label Studio's tasks; pydantic checks each value."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, Discriminator, Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from pipeline.formats.schema import Number, Side, Text, checked_size

Names = Annotated[list[Text], Field(min_length=1)]
Size = tuple[Side, Side]  # (height, width)


class Brush(TypedDict):
    """A brush stroke, as bytes of rle-pack; see `rle_pack`."""

    rle: list[Annotated[int, Field(strict=True, ge=0, le=255)]]
    brushlabels: Names


class Rectangle(TypedDict):
    """A rectangle in percent of the image."""

    x: Number
    y: Number
    width: Number
    height: Number
    rotation: NotRequired[Number | None]
    rectanglelabels: Names


class BrushRow(TypedDict):
    """A result that is a brush stroke."""

    type: Literal["brushlabels"]
    value: Brush
    original_height: NotRequired[Side]
    original_width: NotRequired[Side]
    score: NotRequired[Number]


class RectangleRow(TypedDict):
    """A result that is a rectangle."""

    type: Literal["rectanglelabels"]
    value: Rectangle
    original_height: NotRequired[Side]
    original_width: NotRequired[Side]
    score: NotRequired[Number]


Row = BrushRow | RectangleRow


class Data(TypedDict):
    """The data of a task. Other keys belong to the labeling project and are ignored."""

    image: Text
    split: NotRequired[Text | None]
    part: NotRequired[Text | None]


class AnnotationSet(TypedDict):
    """An annotation or a prediction: the results of one person or model for a task. Results of
    other types than brush strokes and rectangles are ignored."""

    result: NotRequired[list[object]]


class Task(TypedDict):
    """A task. `size` is this pipeline's own key, for an image without results."""

    __pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[misc]

    data: Data
    annotations: NotRequired[list[AnnotationSet] | None]
    predictions: NotRequired[list[AnnotationSet] | None]
    size: NotRequired[Size]


TASK = TypeAdapter(Task)
ROW: TypeAdapter[Row] = TypeAdapter(Annotated[Row, Discriminator("type")])
_TYPES = frozenset({"brushlabels", "rectanglelabels"})


def results_of(task: Task) -> list[object]:
    """The results of the first annotation, or of the first prediction if there is no annotation."""
    sets = task.get("annotations") or task.get("predictions") or []
    rows = sets[0].get("result", []) if sets else []
    return [row for row in rows if isinstance(row, dict) and _is_supported(row.get("type"))]


def _is_supported(name: object) -> bool:
    return isinstance(name, str) and name in _TYPES


def size_of(task: Task, rows: list[Row]) -> Size:
    """(height, width) of the image of a task. Raises ValueError for a task without a size."""
    if not rows:
        if "size" not in task:
            raise ValueError("it has no results and no size")
        return checked_size(*task["size"])
    first = rows[0]
    if "original_height" not in first or "original_width" not in first:
        raise ValueError("its first result has no original_width or original_height")
    return checked_size(first["original_height"], first["original_width"])


def label_of(row: Row) -> str:
    """The first label of a result."""
    if row["type"] == "brushlabels":
        return row["value"]["brushlabels"][0]
    return row["value"]["rectanglelabels"][0]
