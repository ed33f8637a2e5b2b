"""Random actions: the store, a file that is opened again, and a plain Python model stay equal."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from review_sessions import CATEGORIES, draw_labels, session, square

from pipeline.review.actions import Move
from pipeline.review.store import ReviewStore
from pipeline.review.values import ImageValue, Key, Value, object_value

IMAGE = 1  # all actions are on it; it begins with the objects 1 and 2
STATES = st.sampled_from(["unreviewed", "accepted", "rejected"])
corners = st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(0, len(CATEGORIES) - 1))


class Session(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = session(draw_labels(Path(self.folder.name), images=2))
        self.store = ReviewStore(self.path)
        self.model: dict[Key, Value] = self.stored()
        self.past: list[dict[Key, Value]] = []
        self.future: list[dict[Key, Value]] = []

    def stored(self) -> dict[Key, Value]:
        """Every object and image of the store."""
        rows = self.store.rows("SELECT id, value FROM objects")
        objects: dict[Key, Value] = {
            Key("object", int(str(number))): object_value(str(text))
            for number, text in rows
            if text is not None
        }
        state = self.store.image(IMAGE).state
        return {**objects, Key("image", IMAGE): ImageValue.model_validate({"image_state": state})}

    def keep(self, after: dict[Key, Value]) -> None:
        """The model follows an action that changed something."""
        if any(self.model.get(key) != value for key, value in after.items()):
            self.past.append(dict(self.model))
            self.future.clear()
            self.model |= after

    def objects(self) -> list[Key]:
        return [key for key in sorted(self.model) if key.kind == "object" and key.id != 99]

    @rule(which=st.integers(0, 50), state=STATES)
    def judge(self, which: int, state: str) -> None:
        key = self.objects()[which % len(self.objects())]
        value = self.model[key]
        assert value is not None
        after: dict[Key, Value] = {key: value.model_copy(update={"state": state})}
        self.store.act("Ann", Move("judge", IMAGE, key.id, after))
        self.keep(after)

    @rule(which=st.integers(0, 50), corner=corners)
    def edit(self, which: int, corner: tuple[int, int, int]) -> None:
        key = self.objects()[which % len(self.objects())]
        after: dict[Key, Value] = {key: square(*corner)}
        self.store.act("Ben", Move("edit", IMAGE, key.id, after))
        self.keep(after)

    @rule(corner=corners)
    def add(self, corner: tuple[int, int, int]) -> None:
        action = self.store.act("Ann", Move("add", IMAGE, added=[square(*corner)]))
        assert action is not None
        self.keep(dict(action.after))

    @rule(state=st.sampled_from(["unreviewed", "good", "checked"]))
    def mark(self, state: str) -> None:
        after: dict[Key, Value] = {
            Key("image", IMAGE): ImageValue.model_validate({"image_state": state})
        }
        self.store.act("Ann", Move("mark", IMAGE, after=after))
        self.keep(after)

    @rule()
    def undo(self) -> None:
        assert (self.store.undo("Ann") is not None) == bool(self.past)
        if self.past:
            self.future.append(self.model)
            self.model = self.past.pop()

    @rule()
    def redo(self) -> None:
        assert (self.store.redo("Ann") is not None) == bool(self.future)
        if self.future:
            self.past.append(self.model)
            self.model = self.future.pop()

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = ReviewStore(self.path)

    @invariant()
    def they_are_equal(self) -> None:
        assert self.stored() == self.model

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestSession = Session.TestCase
TestSession.settings = settings(max_examples=8, stateful_step_count=30, deadline=None)
