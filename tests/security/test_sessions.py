"""A session file of a stranger, or one that was damaged: a line, and never a crash."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from review_sessions import draw_labels, session, square

from pipeline.errors import PipelineError
from pipeline.review.actions import Move
from pipeline.review.store import ReviewStore
from pipeline.review.values import Key
from pipeline.stages.export_labels import export_labels

VALUES = (
    "", "null", "[]", "{}", "[[[[", '{"o1": 5}', "\u0000", "9" * 400, "-1", "1e999", "x" * 9999,
    '{"category": 0, "state": "accepted", "counts": "0000", "box": [0, 0, 1, 1]}',
    '{"o1": {"category": 99, "state": "accepted", "counts": null, "box": [0, 0, 1, 1]}}',
)  # fmt: skip
PLACES = (
    ("session", "value"), ("images", "file_name"), ("images", "place"), ("images", "record"),
    ("images", "height"), ("images", "state"), ("objects", "value"), ("objects", "original"),
    ("objects", "figures"), ("objects", "state"), ("objects", "image"), ("actions", "kind"),
    ("actions", "after"), ("actions", "before"), ("actions", "time"), ("actions", "image"),
)  # fmt: skip


def reviewed(folder: Path) -> Path:
    labels = draw_labels(folder)
    with ReviewStore(session(labels)) as store:
        store.act("Ann", Move("edit", 1, 1, {Key("object", 1): square(9, 9)}))
        store.undo("Ann")
    return labels


def exported(labels: Path, output: Path) -> str:
    """Nothing, or the line that an export ends with."""
    try:
        export_labels(labels, "coco", output)
    except PipelineError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize(("table", "column"), PLACES)
def test_a_session_with_other_values_is_a_line(tmp_path: Path, table: str, column: str) -> None:
    labels = reviewed(tmp_path)
    path = labels.with_suffix(".review")
    whole = path.read_bytes()
    for number, value in enumerate(VALUES):
        path.write_bytes(whole)
        with closing(sqlite3.connect(path)) as database, database, suppress(sqlite3.Error):
            database.execute(f"UPDATE {table} SET {column} = ?", (value,))
        assert "\n" not in exported(labels, tmp_path / f"out{number}")


@pytest.mark.slow
def test_a_session_with_other_bytes_is_a_line(tmp_path: Path) -> None:
    labels = reviewed(tmp_path)
    path = labels.with_suffix(".review")
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for number in range(60):
        data = np.frombuffer(whole, np.uint8).copy()
        at = generator.integers(100, len(data), generator.integers(1, 30))
        data[at] = generator.integers(0, 256, len(at))
        path.write_bytes(data.tobytes())
        refused += bool(exported(labels, tmp_path / f"out{number}"))
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert refused > 5
