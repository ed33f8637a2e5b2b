"""The queue: what the page lists of every object, as columns of numbers."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.review.schema import FINDER, PERSON
from pipeline.review.store import ReviewStore
from pipeline.types import FINDERS

COLUMNS: Final = (
    "id", "image", "category", "state", "expected_iou", "probability", "score", "x0", "y0", "x1",
    "y1", "revision", "finder",
)  # fmt: skip
_STALE = 500  # actions, after which the queue is made again
_KNOWN = " ".join(f"WHEN '{name}' THEN {code}" for code, name in enumerate(FINDERS))
_FINDER_CODE = (  # its index in `FINDERS`; NULL where it is not known
    f"CASE WHEN original IS NULL THEN {FINDERS.index(PERSON)} WHEN json_valid(figures) THEN "
    f"CASE json_extract(figures, '$.{FINDER}') {_KNOWN} END END"
)
_SELECT = f"SELECT {', '.join(COLUMNS[:-1])}, {_FINDER_CODE} FROM objects WHERE value IS NOT NULL"


@dataclass(frozen=True)
class Queue:
    """columns: (N, 13) float64, in the order of `COLUMNS`; NaN for a figure that is not known."""

    revision: int
    columns: NDArray[np.float64]


def read_queue(store: ReviewStore) -> Queue:
    """Every object of a session."""
    revision = store.revision  # first: what is newer comes again with the changes
    return Queue(revision, _columns(store.rows(_SELECT)))


def changed_objects(store: ReviewStore, since: int) -> NDArray[np.float64]:
    """The rows (N, 13) of objects that the actions after one changed."""
    return _columns(store.rows(f"{_SELECT} AND revision > ?", since))


def removed_objects(store: ReviewStore, since: int) -> list[int]:
    """The ids of objects that an undo of their creation removed after an action."""
    query = "SELECT id FROM objects WHERE value IS NULL AND revision > ?"
    return [int(str(id_)) for (id_,) in store.rows(query, since)]


def _columns(rows: list[tuple[object, ...]]) -> NDArray[np.float64]:
    return np.array(rows, np.float64).reshape(-1, len(COLUMNS))  # None becomes NaN


class PackedQueue:
    """The queue as bytes, made again when the session has gone far on: what is newer comes with the
    changes."""

    def __init__(self, store: ReviewStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._revision, self._bytes = -1, b""

    def bytes(self) -> bytes:
        """See `packed`, of this or of a somewhat earlier moment."""
        with self._lock:
            if self._revision < 0 or self._store.revision - self._revision > _STALE:
                queue = read_queue(self._store)
                self._revision, self._bytes = queue.revision, packed(queue)
            return self._bytes


def packed(queue: Queue) -> bytes:
    """A line of JSON (revision, count, names), then each column as little-endian float64."""
    head = {"revision": queue.revision, "count": len(queue.columns), "columns": COLUMNS}
    line = json.dumps(head)
    padding = " " * (-(len(line) + 1) % 8)  # the numbers start at a multiple of 8 bytes
    columns = np.ascontiguousarray(queue.columns.T, "<f8")
    return (line + padding + "\n").encode() + columns.tobytes()
