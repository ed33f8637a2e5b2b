"""What the page sends, checked, and as moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.formats.schema import Name
from pipeline.review.actions import Move
from pipeline.review.store import ReviewStore
from pipeline.review.values import Coordinate, ImageState, ImageValue, Key, State, Value, with_mask
from pipeline.review.wire import Whole, WireMask, from_wire

_FORM = ConfigDict(frozen=True, extra="forbid")
Id = Annotated[int, Field(strict=True, ge=0, lt=1 << 53)]
Kind = Literal["accept", "reject", "relabel", "edit", "fill", "add", "split", "merge", "good",
               "check", "reset"]  # fmt: skip


class ObjectChange(BaseModel):
    """New values of an object; None keeps the old one. revision: at which the page saw it."""

    model_config = _FORM

    id: Id
    revision: Id
    category: Whole | None = None
    state: State | None = None
    mask: WireMask | None = None


class NewObject(BaseModel):
    """An object that a person draws."""

    model_config = _FORM

    category: Whole
    mask: WireMask


class ActRequest(BaseModel):
    """One action on one image. object: the one in view."""

    model_config = _FORM

    kind: Kind
    image: Id
    object: Id | None = None
    objects: Annotated[list[ObjectChange], Field(max_length=5000)] = []
    added: Annotated[list[NewObject], Field(max_length=500)] = []
    image_state: ImageState | None = None


class ClickRequest(BaseModel):
    """A click in pixels. inside: whether the object is there."""

    model_config = _FORM

    x: Coordinate
    y: Coordinate
    inside: bool


class SegmentRequest(BaseModel):
    """Prompts for SAM. before: the mask that the clicks correct."""

    model_config = _FORM

    image: Id
    category: Whole = 0
    box: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = None
    clicks: Annotated[list[ClickRequest], Field(max_length=100)] = []
    before: WireMask | None = None


class EmptyRequest(BaseModel):
    """A request that says all by its address."""

    model_config = _FORM


class ImageRequest(BaseModel):
    """An image by its id."""

    model_config = _FORM

    image: Id


class CategoryRequest(BaseModel):
    """A new category."""

    model_config = _FORM

    name: Annotated[Name, Field(min_length=1, max_length=100)]


def to_move(request: ActRequest, store: ReviewStore) -> Move:
    """The move of a request. A new mask or category is a judgement too: the object is accepted,
    unless the request says another state. Raises ValueError for what does not fit."""
    size = store.image(request.image).size
    after: dict[Key, Value] = {}
    expected: dict[Key, int] = {}
    for change in request.objects:
        key = Key("object", change.id)
        after[key] = _changed(change, size, store)
        expected[key] = change.revision
    if request.image_state is not None:
        after[Key("image", request.image)] = ImageValue(image_state=request.image_state)
    added = [with_mask(from_wire(each.mask, size), each.category) for each in request.added]
    return Move(request.kind, request.image, request.object, after, added, expected)


def _changed(change: ObjectChange, size: tuple[int, int], store: ReviewStore) -> Value:
    value = store.object_by_id(change.id).value
    if value is None:
        raise ValueError(f"object {change.id} is gone")
    update: Mapping[str, object] = {}
    if change.mask is not None:
        drawn = with_mask(from_wire(change.mask, size), value.category)
        update = {"counts": drawn.counts, "box": drawn.box, "state": "accepted"}
    if change.category is not None:
        update = {**update, "category": change.category, "state": "accepted"}
    if change.state is not None:
        update = {**update, "state": change.state}
    return value.model_copy(update=update)
