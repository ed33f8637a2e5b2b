"""Work log of a long run: its finished items, in a sqlite3 database in WAL mode.

A process that is killed loses at most the item under way. A power cut loses at most some seconds:
items count after the next start of the machine only if they and all files written before them were
on the disk. A damaged or foreign database counts as absent.
"""

from __future__ import annotations

import json
import sqlite3
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from pipeline.errors import DataError
from pipeline.io.manifest import WORK
from pipeline.io.write import sync_file_system, write_error
from pipeline.runtime.progress import say

LOG = f"{WORK}/work.sqlite"  # in an output folder

Value = TypeVar("Value")
Key = str | int

_SUFFIXES = ("", "-wal", "-shm", "-journal")  # of the files of one database
_SYNC_S = 10.0  # between two syncs: at most this much work is done again after a power cut
_SCHEMA = (
    "CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT)",
    "CREATE TABLE items (id INTEGER PRIMARY KEY, part TEXT, key TEXT, value TEXT, crc32 INTEGER, "
    "UNIQUE (part, key))",
    "CREATE TABLE rows (id INTEGER PRIMARY KEY, item INTEGER, text TEXT)",
    "CREATE INDEX rows_of_item ON rows (item)",
)
_REFUSED = {  # the system refuses, which says nothing of the content
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM,
}  # fmt: skip


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
        self._database = _open(path)
        try:
            with _refusals(path):
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
        with _refusals(self._path), _transaction(self._database):
            if old := self._item(key):
                _delete(self._database, "id = ?", old[0])
            item = self._database.execute(
                "INSERT INTO items (part, key, value, crc32) VALUES (?, ?, ?, ?)",
                (self._part, str(key), text, _checksum(str(key), text, rows)),
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
        with _refusals(self._path), _transaction(self._database):
            _set_state(self._database, "synced", _last_item(self._database))
        self._is_synced = True

    def _drop_damaged(self) -> None:
        """Delete the first item that is not as it was written, and all after it: they keep their
        order when they are done again."""
        for item, key, value, checksum in self._items():
            if self._is_whole(item, key, value, checksum):
                continue
            with _transaction(self._database):
                _delete(self._database, "part = ? AND id >= ?", self._part, item)
            say(f"{self._path}: is damaged after {len(self)} items: the others are done again")
            return

    def _is_whole(self, item: int, key: str, value: str, checksum: int) -> bool:
        query = "SELECT text FROM rows WHERE item = ? ORDER BY id"
        try:
            rows = [row[0] for row in self._database.execute(query, (item,))]
            self._kind.validate_python(json.loads(value))
            return checksum == _checksum(key, value, rows)
        except (ValueError, TypeError, AttributeError, RecursionError):  # not of the types added
            return False


def read_key(folder: Path) -> str | None:
    """The key that `write_key` left in an output folder; None where there is none. Raises
    DataError when the system refuses."""
    if (folder / WORK).is_symlink() or not (folder / LOG).is_file():
        return None
    with closing(_open(folder / LOG)) as database, _refusals(folder):
        return _state(database, "key")


def write_key(folder: Path, key: str) -> None:
    """Note what the work in an output folder comes from. Raises DataError."""
    with closing(_open(folder / LOG)) as database, _refusals(folder), _transaction(database):
        _set_state(database, "key", key)


def has_items(folder: Path) -> bool:
    """Whether the log of an output folder holds an item. Raises DataError."""
    if not (folder / LOG).is_file():
        return False
    with closing(_open(folder / LOG)) as database, _refusals(folder):
        return _last_item(database) > 0


def log_files(folder: Path) -> set[Path]:
    """The files of the log of an output folder, whether they exist or not."""
    return set(_files(folder / LOG))


def _open(path: Path) -> sqlite3.Connection:
    """Open or create a database; one that is damaged or foreign is replaced, after a notice."""
    with _refusals(path):
        _remove_links(path)
        try:
            return _checked(path)
        except sqlite3.DatabaseError as error:
            if _is_refused(error):
                raise
            say(f"{path}: is damaged or no work log ({error}): the work is done again")
        for file in _files(path):
            file.unlink(missing_ok=True)
        return _checked(path)


def _checked(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.DatabaseError for a database that is damaged, or has another schema: so no
    trigger or view of a foreign one runs."""
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
            with _transaction(database):
                for statement in _SCHEMA:
                    database.execute(statement)
        query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
        if tuple(row[0] for row in database.execute(query)) != _SCHEMA:
            raise sqlite3.DatabaseError("its tables are others")
        result = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if result != "ok":
            raise sqlite3.DatabaseError(" ".join(str(result).split()))
        _drop_unsynced(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _drop_unsynced(database: sqlite3.Connection, path: Path) -> None:
    """After a new start of the machine, delete the items that may not have been on the disk."""
    boot = _boot_id()
    if _state(database, "boot") == boot:
        return
    synced = int(_state(database, "synced") or 0)
    if (last := _last_item(database)) > synced:
        say(f"{path}: the machine stopped; {last - synced} items or fewer are done again")
    with _transaction(database):
        _delete(database, "id > ?", synced)
        _set_state(database, "boot", boot)


def _delete(database: sqlite3.Connection, condition: str, *values: Key) -> None:
    """Delete the items of a condition and their rows. sqlite gives the highest numbers again, so
    they no longer count as synced."""
    items = f"SELECT id FROM items WHERE {condition}"
    database.execute(f"DELETE FROM rows WHERE item IN ({items})", values)
    database.execute(f"DELETE FROM items WHERE {condition}", values)
    if int(_state(database, "synced") or 0) > (last := _last_item(database)):
        _set_state(database, "synced", last)


def _last_item(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT COALESCE(MAX(id), 0) FROM items").fetchone()[0])


def _state(database: sqlite3.Connection, name: str) -> str | None:
    row = database.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _set_state(database: sqlite3.Connection, name: str, value: Key) -> None:
    database.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, str(value)))


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    with database:  # commits, or rolls back
        yield


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What the system refuses as one line."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error
    except sqlite3.Error as error:
        if not _is_refused(error):
            raise DataError(path, f"is damaged ({error})", "call the same command again") from error
        raise write_error(path, OSError(str(error))) from error


def _is_refused(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _REFUSED


def _files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _SUFFIXES]


def _remove_links(path: Path) -> None:
    """Remove links in the place of a database's files: what they lead to stays as it is."""
    for file in _files(path):
        with suppress(FileNotFoundError):
            state = file.lstat()
            if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
                file.unlink()


def _checksum(key: str, value: str, rows: Sequence[str]) -> int:
    return zlib.crc32("\n".join((key, value, *rows)).encode())


def _boot_id() -> str:
    """What changes when the machine starts; "" where the system does not tell."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
