"""The sqlite3 database of a work log: opened, checked, and refused or replaced when damaged."""

from __future__ import annotations

import sqlite3
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import DataError
from pipeline.io.write import write_error
from pipeline.runtime.progress import say

Key = str | int

_SUFFIXES = ("", "-wal", "-shm", "-journal")  # of the files of one database
_SCHEMA = (
    "CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT)",
    "CREATE TABLE items (id INTEGER PRIMARY KEY, part TEXT, key TEXT, value TEXT, crc32 INTEGER, "
    "UNIQUE (part, key))",
    "CREATE TABLE rows (id INTEGER PRIMARY KEY, item INTEGER, text TEXT)",
    "CREATE INDEX rows_of_item ON rows (item)",
)
_ERRORS = (sqlite3.Error, UnicodeDecodeError)  # sqlite's messages may hold bytes of a bad file
_REFUSED = {  # the system refuses, which says nothing of the content
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM,
}  # fmt: skip


def open_database(path: Path, replace: bool = True) -> sqlite3.Connection:
    """Open or create. replace: one that is damaged or foreign gives place to an empty one, after a
    notice; without it, it is a DataError. Raises DataError when the system refuses."""
    with refusals(path):
        remove_links(path)
        try:
            return _checked(path)
        except _ERRORS as error:
            if _is_refused(error):
                raise
            problem = f"is damaged or no work log ({error})"
        if not replace:
            raise DataError(path, problem, "add --overwrite to do the work again")
        say(f"{path}: {problem}: the work is done again")
        for file in database_files(path):
            file.unlink(missing_ok=True)
        return _checked(path)


def _checked(path: Path) -> sqlite3.Connection:
    """The work log's database, without the items that may not have been on the disk."""
    database = connected(path, _SCHEMA)
    try:
        _drop_unsynced(database, path)
    except BaseException:
        database.close()
        raise
    return database


def connected(
    path: Path, schema: Sequence[str], durable: bool = False, threads: bool = False
) -> sqlite3.Connection:
    """Open a database in WAL mode, or create it with the statements of `schema`. durable: each
    transaction is on the disk when it ends. threads: several may use it, one at a time.

    Raises sqlite3.DatabaseError for a database that is damaged, or has another schema: so no
    trigger or view of a foreign one runs.
    """
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=not threads)
    try:
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
            with transaction(database):
                for statement in schema:
                    database.execute(statement)
        query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
        if tuple(row[0] for row in database.execute(query)) != tuple(schema):
            raise sqlite3.DatabaseError("its tables are others")
        result = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if result != "ok":
            raise sqlite3.DatabaseError(" ".join(str(result).split()))
    except BaseException:
        database.close()
        raise
    return database


def _drop_unsynced(database: sqlite3.Connection, path: Path) -> None:
    """After a new start of the machine, delete the items that may not have been on the disk."""
    boot = _boot_id()
    if get_state(database, "boot") == boot:
        return
    synced = int(get_state(database, "synced") or 0)
    if (last := last_item(database)) > synced:
        say(f"{path}: the machine stopped; {last - synced} items or fewer are done again")
    with transaction(database):
        delete_items(database, "id > ?", synced)
        set_state(database, "boot", boot)


def delete_items(database: sqlite3.Connection, condition: str, *values: Key) -> None:
    """Delete the items of a condition and their rows. sqlite gives the highest numbers again, so
    they no longer count as synced."""
    items = f"SELECT id FROM items WHERE {condition}"
    database.execute(f"DELETE FROM rows WHERE item IN ({items})", values)
    database.execute(f"DELETE FROM items WHERE {condition}", values)
    if int(get_state(database, "synced") or 0) > (last := last_item(database)):
        set_state(database, "synced", last)


def last_item(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT COALESCE(MAX(id), 0) FROM items").fetchone()[0])


def get_state(database: sqlite3.Connection, name: str) -> str | None:
    row = database.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def set_state(database: sqlite3.Connection, name: str, value: Key) -> None:
    database.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, str(value)))


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    with database:  # commits, or rolls back
        yield


@contextmanager
def refusals(path: Path, remedy: str = "call the same command again") -> Iterator[None]:
    """What the system refuses as one line. remedy: of a database that is damaged."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error
    except _ERRORS as error:
        if not _is_refused(error):
            raise DataError(path, f"is damaged ({error})", remedy) from error
        raise write_error(path, OSError(str(error))) from error


def _is_refused(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _REFUSED


def database_files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _SUFFIXES]


def remove_links(path: Path) -> None:
    """Remove links in the place of a database's files: what they lead to stays as it is."""
    for file in database_files(path):
        with suppress(FileNotFoundError):
            state = file.lstat()
            if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
                file.unlink()


def item_checksum(key: str, value: str, rows: Sequence[str]) -> int:
    return zlib.crc32("\n".join((key, value, *rows)).encode())


def _boot_id() -> str:
    """What changes when the machine starts; "" where the system does not tell."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
