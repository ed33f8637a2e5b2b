"""A new session file, and the error for one that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import DataError
from pipeline.io.database import connected, database_files, refusals, remove_links, transaction
from pipeline.review.schema import TABLES
from pipeline.review.source import StartingLabels
from pipeline.review.tables import insert_labels

_REMEDY = "put back a copy of it, or move it away to begin again"


@contextmanager
def session_refusals(path: Path) -> Iterator[None]:
    """What the system refuses, and a damaged file, as one line."""
    try:
        with refusals(path, _REMEDY):
            yield
    except DataError as error:
        if error.remedy == _REMEDY or error.path != path:
            raise
        raise DataError(path, error.reason, "free space, or name a place with --session") from error
    except (KeyError, IndexError, json.JSONDecodeError) as error:
        raise DataError(path, f"is damaged ({error!r})", _REMEDY) from error


@contextmanager
def content_refusals(path: Path) -> Iterator[None]:
    """As `session_refusals`, also for content that is not that of a session: another program wrote
    it. Not around what a person does, whose ValueErrors are theirs."""
    try:
        with session_refusals(path):
            yield
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(path, f"is damaged ({reason})", _REMEDY) from error


def create_session(path: Path, labels: StartingLabels, root: Path, sha256: str) -> None:
    """Write a new session file of labels, whole or not at all. root: the folder of the images.
    sha256: of the labels' file. Raises DataError when the system refuses."""
    part = path.with_name(f".{path.name}.part")
    with session_refusals(path):
        for file in (*database_files(part), *database_files(path)[1:]):
            file.unlink(missing_ok=True)
        remove_links(part)
        database = connected(part, TABLES)
        try:
            with transaction(database):
                about = {
                    "categories": json.dumps(labels.dataset.categories),
                    "sha256": sha256,
                    "root": str(root.resolve()),
                }
                database.executemany("INSERT INTO session VALUES (?, ?)", about.items())
                insert_labels(database, labels, root)
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("PRAGMA journal_mode = DELETE")
        finally:
            database.close()
        part.replace(path)
