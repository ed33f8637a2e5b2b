"""What the server says of a session, as JSON for the page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from math import isnan
from typing import TypedDict

from pydantic import JsonValue

from pipeline.review.actions import Action
from pipeline.review.assistant import Assistant
from pipeline.review.figures import changed_objects, removed_objects
from pipeline.review.learner import Learning
from pipeline.review.picture_cache import TILE
from pipeline.review.schema import STATE_NAMES
from pipeline.review.store import ReviewStore
from pipeline.review.tables import SavedImage, SavedObject
from pipeline.review.wire import to_wire
from pipeline.types import FINDERS

COLOURS = ("#ff5a5f", "#2f9bff", "#35c46a", "#ffb020", "#b46cff", "#00bfbf", "#ff7ac6", "#9bd12f",
           "#ff8a3d")  # fmt: skip
_MOST_ACTIONS = 50  # of a view of what others did
JsonObject = dict[str, JsonValue]


class About(TypedDict):
    """What does not change while the server runs. who: the person. notices: shown once, above the
    queue. has_heat: whether there are heat maps."""

    title: str
    who: str
    notices: list[str]
    has_heat: bool


def colour_of(category: int) -> tuple[int, int, int]:
    """The colour of a category, RGB."""
    text = COLOURS[category % len(COLOURS)]
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def session_view(store: ReviewStore, about: About) -> JsonObject:
    """All that the page needs before the queue."""
    return {
        "title": about["title"],
        "who": about["who"],
        "notices": [*about["notices"]],
        "has_heat": about["has_heat"],
        "categories": list(store.categories),
        "colours": list(COLOURS),
        "states": list(STATE_NAMES),
        "finders": list(FINDERS),
        "tile": TILE,
        "images": [image_row(image) for image in store.images()],
    }


def image_row(image: SavedImage) -> JsonValue:
    """An image in the queue."""
    return [image.id, image.file_name, image.width, image.height, image.state, image.missed,
            image.anomaly, image.revision]  # fmt: skip


def changes_view(
    store: ReviewStore, assistant: Assistant, learning: Learning, since: int
) -> JsonObject:
    """What happened after an action: new rows of objects and images, and who did it."""
    revision = store.revision
    rows = changed_objects(store, since).tolist()
    return {
        "revision": revision,
        "objects": [[None if isnan(value) else value for value in row] for row in rows],
        "removed": [*removed_objects(store, since)],
        "images": [image_row(image) for image in store.images_after(since)],
        "actions": [action_view(a) for a in islice(store.actions(since), _MOST_ACTIONS)],
        "categories": list(store.categories),
        "can_undo": store.can_undo,
        "can_redo": store.can_redo,
        "sam": {
            "status": assistant.status,
            "name": assistant.name,
            "note": assistant.note,
            "number": assistant.number,
        },
        "learn": {
            "state": learning.state,
            "line": learning.line,
            "generation": learning.generation,
        },
    }


def action_view(action: Action) -> JsonObject:
    """An action in a line of the history."""
    return {
        "id": action.id,
        "time": action.time,
        "who": action.who,
        "kind": action.kind,
        "object": action.object,
        "image": action.image,
        "of": action.target,
    }


def image_view(image: SavedImage, objects: Sequence[SavedObject], levels: int) -> JsonObject:
    """An image with its objects. levels: of its pyramid."""
    return {
        "id": image.id,
        "file_name": image.file_name,
        "width": image.width,
        "height": image.height,
        "state": image.state,
        "revision": image.revision,
        "missed": image.missed,
        "anomaly": image.anomaly,
        "levels": levels,
        "objects": [object_view(each, image.size) for each in objects],
    }


def object_view(saved: SavedObject, size: tuple[int, int]) -> JsonObject:
    """An object with its mask. Raises ValueError for one that is damaged, or gone."""
    value = saved.value
    if value is None or saved.code is None:
        raise ValueError(f"object {saved.id} is gone")
    rle = value.rle(size)
    return {
        "id": saved.id,
        "category": value.category,
        "state": saved.code,
        "box": list(value.box),
        "mask": None if rle is None else to_wire(rle).model_dump(),
        "figures": dict(saved.figures),
        "finder": saved.finder,
        "revision": saved.revision,
    }
