"""What a person can change: an object's category, mask and state, and an image's state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.formats.schema import Name
from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.geometry.masks import Rle, bounding_boxes, check_runs

State = Literal["unreviewed", "accepted", "rejected"]
ImageState = Literal["unreviewed", "good", "checked"]
STATES: tuple[State, ...] = ("unreviewed", "accepted", "rejected")
IMAGE_STATES: tuple[ImageState, ...] = ("unreviewed", "good", "checked")
Coordinate = Annotated[float, Field(ge=-1e10, le=1e10, allow_inf_nan=False)]


class ObjectValue(BaseModel):
    """An object as it is at one moment.

    category: index into the categories of the session. counts: COCO's compressed runs of the mask,
    of the image's size; None for a box alone. box: x0, y0, x1, y1 in pixels, half-open.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: Annotated[int, Field(ge=0)]
    state: State
    counts: str | None
    box: tuple[Coordinate, Coordinate, Coordinate, Coordinate]

    def rle(self, size: tuple[int, int]) -> Rle | None:
        """The mask on an image of `size` (height, width); None for a box alone. Raises ValueError
        for runs that are not of this size."""
        if self.counts is None:
            return None
        if not self.counts.isascii():
            raise ValueError("a mask's counts are not COCO's compressed runs")
        data = self.counts.encode("ascii")
        check_runs(data, *size)
        return Rle(size=list(size), counts=data)

    @property
    def boxes(self) -> Boxes:
        """The box as (1, 4)."""
        return as_boxes([self.box])


class ImageValue(BaseModel):
    """An image as it is at one moment. good: a person saw it and it has no defect. checked: a
    person saw it, and its objects are all that there is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_state: ImageState


_NAMES = TypeAdapter(list[Name])
Value = ObjectValue | ImageValue | None  # None: the object does not exist


@dataclass(frozen=True, order=True)
class Key:
    """What an action changes: an object or an image, by its id."""

    kind: Literal["object", "image"]
    id: int

    @property
    def text(self) -> str:
        """`object 12` as `o12`: the name in the rows of a session."""
        return f"{self.kind[0]}{self.id}"


Values = Mapping[Key, Value]


def with_mask(rle: Rle, category: int, state: State = "accepted") -> ObjectValue:
    """An object of a mask with pixels. Its box is that of the mask."""
    box = [float(side) for side in np.asarray(bounding_boxes([rle]))[0]]
    counts = rle["counts"].decode("ascii")
    return ObjectValue(
        category=category, state=state, counts=counts, box=(box[0], box[1], box[2], box[3])
    )


def dump_values(values: Values) -> str:
    """Values as one JSON object, the same text for the same values."""
    content = {key.text: value.model_dump() if value else None for key, value in values.items()}
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def parse_values(text: str) -> dict[Key, Value]:
    """Undo `dump_values`. Raises ValueError for any other text."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("values that are no mapping")
    return {(key := parse_key(name)): _value(key, entry) for name, entry in content.items()}


def parse_key(text: str) -> Key:
    """Undo `Key.text`. Raises ValueError."""
    if not (text[1:].isascii() and text[1:].isdigit()) or len(text) > 20:
        raise ValueError("a key that is no object and no image")
    if text[0] == "o":
        return Key("object", int(text[1:]))
    if text[0] == "i":
        return Key("image", int(text[1:]))
    raise ValueError("a key that is no object and no image")


def _value(key: Key, entry: object) -> Value:
    if key.kind == "image":
        return ImageValue.model_validate(entry)
    return None if entry is None else ObjectValue.model_validate(entry)


def parse_names(text: str) -> tuple[str, ...]:
    """The names of a session's categories. Raises ValueError for what is no list of names."""
    return tuple(_NAMES.validate_json(text))


def object_value(text: str | None) -> ObjectValue | None:
    """The object of a row's JSON; None where it does not exist. Raises ValueError."""
    if text is None:
        return None
    try:
        return ObjectValue.model_validate_json(text)
    except ValidationError as error:
        raise ValueError("an object that cannot be read") from error


def refuse_misfit(key: Key, value: Value, size: tuple[int, int], categories: int) -> None:
    """Raise ValueError for a value that its image of `size` (height, width) cannot have.
    categories: how many there are."""
    if key.kind == "image":
        if not isinstance(value, ImageValue):
            raise ValueError("an image needs an image's state")
        return
    if isinstance(value, ImageValue):
        raise ValueError("an object needs a category, a state and a box")
    if value is None:
        raise ValueError("an object is rejected, and never removed")
    x0, y0, x1, y1 = value.box
    if not (0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]):
        raise ValueError("a box that is not inside its image")
    if value.category >= categories:
        raise ValueError(f"there is no category {value.category}")
    value.rle(size)
