"""Work log of a long run: its finished items, in a sqlite3 database in WAL mode.

A process that is killed loses at most the item under way. A power cut loses at most some seconds:
items count after the next start of the machine only if they and all files written before them were
on the disk. A log whose database is damaged or foreign is replaced by an empty one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from pipeline.io.database import (
    Key,
    database_files,
    delete_items,
    get_state,
    item_checksum,
    last_item,
    open_database,
    refusals,
    set_state,
    transaction,
)
from pipeline.io.manifest import WORK
from pipeline.io.write import sync_file_system
from pipeline.runtime.progress import say

LOG = f"{WORK}/work.sqlite"  # in an output folder

Value = TypeVar("Value")

_SYNC_S = 10.0  # between two syncs: at most this much work is done again after a power cut


class WorkLog(Generic[Value]):
    """One part of a log: items by key, each with a value and rows of text.

    Items, values and rows are in the order in which they were added.
    """

    def __init__(
        self,
        path: Path,
        part: str,
        kind: TypeAdapter[Value],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open or create. part: name of the items' group; several parts share one file. kind: type
        of an item's value, kept as JSON. Raises DataError when the system refuses."""
        self._path, self._part, self._kind, self._clock = path, part, kind, clock
        self._synced_at = clock()
        self._is_synced = True
        self._database = open_database(path)
        try:
            with refusals(path):
                self._drop_damaged()
        except BaseException:
            self._database.close()
            raise

    def __contains__(self, key: Key) -> bool:
        return self._item(key) is not None

    def __len__(self) -> int:
        count = "SELECT COUNT(*) FROM items WHERE part = ?"
        return int(self._database.execute(count, (self._part,)).fetchone()[0])

    def get(self, key: Key) -> Value | None:
        """The value of a finished item; None for any other."""
        item = self._item(key)
        return None if item is None else self._kind.validate_python(json.loads(item[1]))

    def add(self, key: Key, value: Value, rows: Sequence[str] = ()) -> None:
        """Finish an item; it replaces one of the same key. The item's files must be written
        before. Raises DataError when the system refuses."""
        text = json.dumps(self._kind.dump_python(value, mode="json"), sort_keys=True)
        with refusals(self._path), transaction(self._database):
            if old := self._item(key):
                delete_items(self._database, "id = ?", old[0])
            item = self._database.execute(
                "INSERT INTO items (part, key, value, crc32) VALUES (?, ?, ?, ?)",
                (self._part, str(key), text, item_checksum(str(key), text, rows)),
            ).lastrowid
            self._database.executemany(
                "INSERT INTO rows (item, text) VALUES (?, ?)", ((item, row) for row in rows)
            )
        self._is_synced = False
        if self._clock() - self._synced_at >= _SYNC_S:
            self._sync()
            self._synced_at = self._clock()

    def values(self) -> Iterator[Value]:
        """The value of every item."""
        for _, _, text, _ in self._items():
            yield self._kind.validate_python(json.loads(text))

    def rows(self) -> Iterator[tuple[int, str]]:
        """Every row with its number, for `row_at`."""
        yield from self._database.execute(
            "SELECT rows.id, rows.text FROM rows CROSS JOIN items ON items.id = rows.item "
            "WHERE part = ? ORDER BY rows.id",
            (self._part,),
        )

    def row_at(self, number: int) -> str:
        """The row of a number that `rows` gave."""
        row = self._database.execute("SELECT text FROM rows WHERE id = ?", (number,)).fetchone()
        return str(row[0])

    def __enter__(self) -> WorkLog[Value]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None and not self._is_synced:
                self._sync()
        finally:
            self._database.close()

    def _item(self, key: Key) -> tuple[int, str] | None:
        query = "SELECT id, value FROM items WHERE part = ? AND key = ?"
        row: tuple[int, str] | None = self._database.execute(
            query, (self._part, str(key))
        ).fetchone()
        return row

    def _items(self) -> Iterator[tuple[int, str, str, int]]:
        """id, key, value and checksum. `+part` keeps sqlite from sorting them in memory."""
        query = "SELECT id, key, value, crc32 FROM items WHERE +part = ? ORDER BY id"
        yield from self._database.execute(query, (self._part,))

    def _sync(self) -> None:
        """Bring all files to the disk, then note that all items are there."""
        sync_file_system(self._path.parent)
        with refusals(self._path), transaction(self._database):
            set_state(self._database, "synced", last_item(self._database))
        self._is_synced = True

    def _drop_damaged(self) -> None:
        """Delete the first item that is not as it was written, and all after it: they keep their
        order when they are done again."""
        for item, key, value, checksum in self._items():
            if self._is_whole(item, key, value, checksum):
                continue
            with transaction(self._database):
                delete_items(self._database, "part = ? AND id >= ?", self._part, item)
            say(f"{self._path}: is damaged after {len(self)} items: the others are done again")
            return

    def _is_whole(self, item: int, key: str, value: str, checksum: int) -> bool:
        query = "SELECT text FROM rows WHERE item = ? ORDER BY id"
        try:
            rows = [row[0] for row in self._database.execute(query, (item,))]
            self._kind.validate_python(json.loads(value))
            return checksum == item_checksum(key, value, rows)
        except (ValueError, TypeError, AttributeError, RecursionError):  # not of the types added
            return False


def read_key(folder: Path) -> str | None:
    """The key that `write_key` left in an output folder; None where there is none. Raises
    DataError when the system refuses, and for a damaged log: what its work comes from is lost."""
    if (folder / WORK).is_symlink() or not (folder / LOG).is_file():
        return None
    with closing(open_database(folder / LOG, replace=False)) as database, refusals(folder):
        return get_state(database, "key")


def write_key(folder: Path, key: str) -> None:
    """Note what the work in an output folder comes from. Raises DataError."""
    with closing(open_database(folder / LOG)) as database, refusals(folder), transaction(database):
        set_state(database, "key", key)


def has_items(folder: Path) -> bool:
    """Whether the log of an output folder holds an item. Raises DataError."""
    if not (folder / LOG).is_file():
        return False
    with closing(open_database(folder / LOG, replace=False)) as database, refusals(folder):
        return last_item(database) > 0


def log_files(folder: Path) -> set[Path]:
    """The files of the log of an output folder, whether they exist or not."""
    return set(database_files(folder / LOG))
