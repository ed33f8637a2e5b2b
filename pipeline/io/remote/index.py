"""Which version of each file a local copy is: a database beside the copies."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.io.database import connected, database_files, refusals, remove_links, transaction

_NAME = ".index.sqlite"  # no bucket and no host begins with a dot
_SCHEMA = (
    "CREATE TABLE copies (key TEXT PRIMARY KEY, version TEXT, size INTEGER, time_ns INTEGER, "
    "sha256 TEXT) WITHOUT ROWID",
)


@dataclass(frozen=True)
class Copy:
    """A file that was fetched or uploaded. size, time_ns: of the local file then. sha256: hex; ""
    for one that was not hashed."""

    key: str
    version: str
    size: int
    time_ns: int
    sha256: str = ""

    def is_at(self, path: Path) -> bool:
        """Whether the local file is still this copy, by size and time."""
        with suppress(OSError):
            state = path.lstat()
            return (state.st_size, state.st_mtime_ns) == (self.size, self.time_ns)
        return False


class Index:
    """The copies of one store. Several threads may use it."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database, self._lock = database, threading.Lock()

    def below(self, key: str) -> dict[str, Copy]:
        """The copies at a key and below it."""
        with self._lock:
            rows = self._database.execute(
                "SELECT * FROM copies WHERE key = ? OR (key > ? AND key < ?)",
                (key, f"{key}/", f"{key}0"),  # "0" follows "/"
            )
            return {row[0]: Copy(*row) for row in rows}

    def add(self, copy: Copy) -> None:
        """Note a copy, in place of an older one."""
        row = (copy.key, copy.version, copy.size, copy.time_ns, copy.sha256)
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?, ?)", row)

    def forget(self, keys: Iterable[str]) -> None:
        """Remove the notes of these copies."""
        with self._lock, transaction(self._database):
            self._database.executemany("DELETE FROM copies WHERE key = ?", ((k,) for k in keys))


@contextmanager
def open_index(tree: Path) -> Iterator[Index]:
    """The index of a store's copies. A damaged one gives place to an empty one: every file is
    fetched again. Raises DataError when the system refuses."""
    path = tree / _NAME
    with refusals(path, "remove it"):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_links(path)
        try:
            database = connected(path, _SCHEMA, threads=True)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            for file in database_files(path):
                file.unlink(missing_ok=True)
            database = connected(path, _SCHEMA, threads=True)
        with closing(database):
            yield Index(database)
