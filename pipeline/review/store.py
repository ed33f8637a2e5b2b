"""A session: every action is a row of one sqlite file, and nothing is ever deleted from it.

The tables of objects and images hold what the rows of actions come to. An undo takes back the last
action of the session that is not undone, whoever did it; a redo does the last undone one again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.errors import DataError
from pipeline.io.database import connected, transaction
from pipeline.review.actions import Action, Move, StaleError
from pipeline.review.create import content_refusals, session_refusals
from pipeline.review.replay import REDO, UNDO, Stacks, stacks_of
from pipeline.review.schema import TABLES
from pipeline.review.tables import (
    SavedImage,
    SavedObject,
    follow,
    insert_new,
    is_unjudged,
    saved_object,
)
from pipeline.review.values import (
    ImageValue,
    Key,
    Value,
    Values,
    dump_values,
    object_value,
    parse_names,
    parse_values,
    refuse_misfit,
)

_OBJECT = "id, image, original, value, figures, revision, state"
_IMAGE = "id, file_name, place, height, width, state, revision, missed, anomaly"


class ReviewStore:
    """An open session. Several threads may use it."""

    def __init__(self, path: Path) -> None:
        """Open a session file. Raises DataError for one that is missing, damaged or no session."""
        if not path.is_file():
            raise DataError(path, "no such session", "start one with `pipeline review`")
        self.path = path
        self._lock = threading.RLock()
        with content_refusals(path):
            self._database = connected(path, TABLES, durable=True, threads=True)
            try:
                about = dict(self._database.execute("SELECT name, value FROM session"))
                self.categories: tuple[str, ...] = parse_names(about["categories"])
                self.sha256, self.root = about["sha256"], Path(about["root"])
                rows = self._database.execute("SELECT id, kind FROM actions ORDER BY id")
                self._stacks: Stacks = stacks_of(rows)
            except BaseException:
                self._database.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; all is on the disk already."""
        with self._lock:
            self._database.close()

    @property
    def revision(self) -> int:
        """The id of the last action; 0 before the first."""
        with self._lock, self._refusals():
            query = "SELECT COALESCE(MAX(id), 0) FROM actions"
            return int(self._database.execute(query).fetchone()[0])

    @property
    def can_undo(self) -> bool:
        """Whether there is an action to take back."""
        return bool(self._stacks.done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone action."""
        return bool(self._stacks.undone)

    def act(self, who: str, move: Move) -> Action | None:
        """Write an action, and return it; None where it would change nothing.

        Raises StaleError where another window was first, ValueError for values that do not fit,
        DataError when the system refuses: then nothing is changed.
        """
        with self._lock, self._refusals():
            with transaction(self._database):
                action = self._moved(who, move)
            if action:
                self._stacks.add(action.id, action.kind)
            return action

    def act_all(
        self, who: str, moves: Iterable[Move], notes: Mapping[str, str], missed: Mapping[int, float]
    ) -> int:
        """Write the actions of many moves, all or none; returns their number. notes: entries of the
        session. missed: by image of an action, the probability that it lacks a label. Raises as
        `act`."""
        with self._lock, self._refusals():
            with transaction(self._database):
                actions = [action for move in moves if (action := self._moved(who, move))]
                query = "INSERT OR REPLACE INTO session VALUES (?, ?)"
                self._database.executemany(query, notes.items())
                query = "UPDATE images SET missed = ?, revision = ? WHERE id = ?"
                rows = [(missed[a.image], a.id, a.image) for a in actions if a.image in missed]
                self._database.executemany(query, rows)
            for action in actions:
                self._stacks.add(action.id, action.kind)
            return len(actions)

    def note(self, name: str) -> str | None:
        """An entry of the session that `act_all` wrote; None without it."""
        with self._lock, self._refusals():
            query = "SELECT value FROM session WHERE name = ?"
            row = self._database.execute(query, (name,)).fetchone()
        return None if row is None else str(row[0])

    def _moved(self, who: str, move: Move) -> Action | None:
        """`act` inside its transaction."""
        after = dict(move.after or {})
        new = insert_new(self._database, move.image, [None] * len(move.added) + [*move.suggested])
        after |= dict(zip(new, [*move.added, *(one.value for one in move.suggested)], strict=True))
        after |= {Key("object", id_): None for id_ in move.removed}
        before = {key: self._value(key, move.image) for key in after}
        for key, revision in (move.expected or {}).items():
            if self._revision(key) != revision:
                raise StaleError(key)
        changed = [key for key in after if before[key] != after[key]]
        for key in changed:
            if key.id in move.removed and is_unjudged(before[key]):
                continue
            refuse_misfit(key, after[key], self.image(move.image).size, len(self.categories))
        if not changed:
            return None
        shown = move.object if move.object is not None or not new else new[0].id
        values = {key: before[key] for key in changed}, {key: after[key] for key in changed}
        return self._write(who, move.kind, (shown, move.image, None), *values)

    def undo(self, who: str) -> Action | None:
        """Take back the last action of the session; None without one."""
        return self._turn(who, UNDO)

    def redo(self, who: str) -> Action | None:
        """Do the last undone action again; None without one."""
        return self._turn(who, REDO)

    def _turn(self, who: str, kind: str) -> Action | None:
        with self._lock, self._refusals():
            stack = self._stacks.done if kind == UNDO else self._stacks.undone
            if not stack:
                return None
            past = self._action(stack[-1])
            before, after = past.before, past.after
            if kind == UNDO:
                before, after = after, before
            with transaction(self._database):
                place = (past.object, past.image, past.id)
                action = self._write(who, kind, place, before, after)
            self._stacks.add(action.id, kind)
            return action

    def _write(
        self,
        who: str,
        kind: str,
        place: tuple[int | None, int, int | None],
        before: Values,
        after: Values,
    ) -> Action:
        """Write a row, and let the tables follow it. place: object, image and target."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        query = (
            "INSERT INTO actions (time, who, kind, object, image, target, before, after) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        )
        texts = dump_values(before), dump_values(after)
        id_ = int(self._database.execute(query, (now, who, kind, *place, *texts)).lastrowid or 0)
        for key, value in after.items():
            if isinstance(value, ImageValue):
                query = "UPDATE images SET state = ?, revision = ? WHERE id = ?"
                self._database.execute(query, (value.image_state, id_, key.id))
            else:
                follow(self._database, key.id, value, id_)
        return Action(id_, now, who, kind, *place, before, after)

    def _value(self, key: Key, image: int) -> Value:
        """The value now. Raises ValueError for what is not on the image."""
        if key.kind == "image":
            found = self.image(key.id)
            if key.id != image:
                raise ValueError("an action is on one image")
            return ImageValue.model_validate({"image_state": found.state})
        query = "SELECT image, value FROM objects WHERE id = ?"
        row = self._database.execute(query, (key.id,)).fetchone()
        if row is None or row[0] != image:
            raise ValueError(f"object {key.id} is not on image {image}")
        return object_value(row[1])

    def _revision(self, key: Key) -> int:
        table = "objects" if key.kind == "object" else "images"
        query = f"SELECT revision FROM {table} WHERE id = ?"
        row = self._database.execute(query, (key.id,)).fetchone()
        return -1 if row is None else int(row[0])

    def image(self, id_: int) -> SavedImage:
        """An image. Raises ValueError for an id that no image has."""
        with self._lock, self._refusals():
            query = f"SELECT {_IMAGE} FROM images WHERE id = ?"
            row = self._database.execute(query, (id_,)).fetchone()
        if row is None:
            raise ValueError(f"there is no image {id_}")
        return SavedImage(*row)

    def images(self) -> list[SavedImage]:
        """All images, in the order of their ids."""
        with self._lock, self._refusals():
            rows = self._database.execute(f"SELECT {_IMAGE} FROM images ORDER BY id").fetchall()
        return [SavedImage(*row) for row in rows]

    def object_by_id(self, id_: int) -> SavedObject:
        """An object. Raises ValueError for an id that none has."""
        query = f"SELECT {_OBJECT} FROM objects WHERE id = ?"
        if not (rows := self.rows(query, id_)):
            raise ValueError(f"there is no object {id_}")
        return saved_object(rows[0])

    def objects_on(self, image: int) -> list[SavedObject]:
        """The objects of an image that exist, in the order of their ids."""
        query = f"SELECT {_OBJECT} FROM objects WHERE image = ? AND value IS NOT NULL ORDER BY id"
        return [saved_object(row) for row in self.rows(query, image)]

    def images_after(self, revision: int) -> list[SavedImage]:
        """The images whose own state changed after an action."""
        query = f"SELECT {_IMAGE} FROM images WHERE revision > ?"
        with self._lock, self._refusals():
            return [SavedImage(*row) for row in self._database.execute(query, (revision,))]

    def actions_on(self, object_: int) -> list[Action]:
        """The actions that had an object in view, in order."""
        query = "SELECT id FROM actions WHERE object = ? ORDER BY id"
        ids = [int(str(id_)) for (id_,) in self.rows(query, object_)]
        with self._lock, self._refusals():
            return [self._action(id_) for id_ in ids]

    def add_category(self, name: str) -> int:
        """The index of a category, which is added if it is new."""
        with self._lock, self._refusals():
            if name not in self.categories:
                names = (*self.categories, name)
                query = "UPDATE session SET value = ? WHERE name = 'categories'"
                with transaction(self._database):
                    self._database.execute(query, (json.dumps(names),))
                self.categories = names
            return self.categories.index(name)

    def rows(self, query: str, *values: int) -> list[tuple[object, ...]]:
        """All rows of a query of this package."""
        with self._lock, self._refusals():
            return self._database.execute(query, values).fetchall()

    def actions(self, since: int = 0) -> Iterator[Action]:
        """The actions after one, in order."""
        for (id_,) in self.rows("SELECT id FROM actions WHERE id > ? ORDER BY id", since):
            with self._lock, self._refusals():
                yield self._action(int(str(id_)))

    def _action(self, id_: int) -> Action:
        query = (
            "SELECT id, time, who, kind, object, image, target, before, after FROM actions "
            "WHERE id = ?"
        )
        row = self._database.execute(query, (id_,)).fetchone()
        number, time, who, kind, object_, image, target, before, after = row
        values = parse_values(before), parse_values(after)
        return Action(number, time, who, kind, object_, image, target, *values)

    def _refusals(self) -> AbstractContextManager[None]:
        return session_refusals(self.path)
