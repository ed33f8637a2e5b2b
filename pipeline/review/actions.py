"""What a person does: a move that is requested, and the action that is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.review.values import Key, ObjectValue, Value, Values


class StaleError(Exception):
    """Another window changed an object or an image first; the caller shows it and asks again."""

    def __init__(self, key: Key) -> None:
        self.key = key
        super().__init__(f"{key.kind} {key.id} was changed in another window")


@dataclass(frozen=True)
class Action:
    """A row: who did what, when (UTC), and the values before and after. object, image: what was in
    view. target: the action that an undo or a redo is of."""

    id: int
    time: str
    who: str
    kind: str
    object: int | None
    image: int
    target: int | None
    before: Values
    after: Values


@dataclass(frozen=True)
class Suggestion:
    """An object that a model proposes, with the figures of its quality by name. finder: one of
    `types.FINDERS`; "" where it is not known."""

    value: ObjectValue
    figures: Mapping[str, float]
    finder: str = ""


@dataclass(frozen=True)
class Move:
    """What a person wants to do. after: the new values of objects and images that exist. added: new
    objects on the image. expected: the revision at which the person saw an object or image.

    suggested: new objects of a model, which a person has not judged. removed: objects that nobody
    has judged, and that these replace."""

    kind: str
    image: int
    object: int | None = None
    after: Mapping[Key, Value] | None = None
    added: Sequence[ObjectValue] = ()
    expected: Mapping[Key, int] | None = None
    suggested: Sequence[Suggestion] = ()
    removed: Sequence[int] = ()
