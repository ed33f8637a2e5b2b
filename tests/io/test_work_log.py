from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from pipeline.errors import DataError
from pipeline.io import database
from pipeline.io.manifest import WORK
from pipeline.io.work_log import LOG, WorkLog, read_key, write_key

NUMBER = TypeAdapter(int)


def opened(path: Path, part: str = "a") -> WorkLog[int]:
    return WorkLog(path, part, NUMBER)


def filled(path: Path, items: int = 3) -> None:
    with opened(path) as log:
        for item in range(items):
            log.add(item, 10 * item, [f"row {item}"])


def test_an_empty_log_holds_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "w") as log:
        assert (len(log), list(log.values()), list(log.rows())) == (0, [], [])
        assert log.get("a") is None
        assert 3 not in log


def test_items_values_and_rows_come_back_in_the_order_in_which_they_were_added(
    tmp_path: Path,
) -> None:
    with opened(tmp_path / "w") as log:
        log.add("late", 2, ["x", "y"])
        log.add("early", 1)
        log.add("third", 3, ["z"])
    with opened(tmp_path / "w") as log:
        assert list(log.values()) == [2, 1, 3]
        assert log.get("early") == 1
        rows = list(log.rows())
        assert [row for _, row in rows] == ["x", "y", "z"]
        assert [log.row_at(number) for number, _ in rows] == ["x", "y", "z"]
    assert [path.name for path in tmp_path.iterdir()] == ["w"]  # no -wal and no -shm


def test_an_item_replaces_one_of_the_same_key_with_its_rows(tmp_path: Path) -> None:
    with opened(tmp_path / "w") as log:
        log.add("a", 1, ["old"])
        log.add("a", 2, ["new"])
        assert (list(log.values()), [row for _, row in log.rows()]) == ([2], ["new"])


def test_parts_of_one_file_do_not_mix(tmp_path: Path) -> None:
    with opened(tmp_path / "w") as one, opened(tmp_path / "w", "b") as other:
        one.add("k", 1, ["one"])
        other.add("k", 2, ["other"])
        assert (one.get("k"), other.get("k")) == (1, 2)
        assert [row for _, row in one.rows()] == ["one"]


KILLED = """
import os, signal, sys
from pathlib import Path
from pydantic import TypeAdapter
from pipeline.io.work_log import WorkLog
log = WorkLog(Path(sys.argv[1]), "a", TypeAdapter(int))
for item in range(5):
    log.add(item, 10 * item, [f"row {item}"])
log._database.execute("BEGIN IMMEDIATE")
log._database.execute("INSERT INTO items (part, key, value) VALUES ('a', '5', '50')")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_the_item_under_way_and_no_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "w")]
    code = subprocess.run(command, check=False, timeout=60).returncode
    assert code == -signal.SIGKILL
    with opened(tmp_path / "w") as log:
        assert list(log.values()) == [0, 10, 20, 30, 40]
        assert [row for _, row in log.rows()] == [f"row {item}" for item in range(5)]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE rows SET text = 'row 7' WHERE text = 'row 1'",
        "UPDATE items SET value = '11' WHERE key = '1'",
        "UPDATE items SET value = 'null' WHERE key = '1'",
        "UPDATE items SET crc32 = x'00' WHERE key = '1'",
        "UPDATE rows SET text = x'FF' WHERE text = 'row 1'",
        "DELETE FROM rows WHERE text = 'row 1'",
    ],
)
def test_an_item_that_is_not_as_it_was_written_costs_those_from_there_on(
    tmp_path: Path, change: str
) -> None:
    filled(tmp_path / "w")
    connection = sqlite3.connect(tmp_path / "w")
    connection.execute(change)
    connection.commit()
    connection.close()
    with opened(tmp_path / "w") as log:
        assert list(log.values()) == [0]
        for item in (1, 2):
            log.add(item, 10 * item, [f"row {item}"])
    with opened(tmp_path / "w") as log:
        assert [row for _, row in log.rows()] == ["row 0", "row 1", "row 2"]


FOREIGN = "CREATE TABLE state (name TEXT); CREATE TABLE items (id TEXT);"
TRIGGER = "CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM rows; END"


def damage(path: Path, how: str) -> None:
    if how == "text":
        path.write_bytes(b"no database" * 500)
    elif how == "half":
        path.write_bytes(path.read_bytes()[:6000])
    elif how == "schema":  # sqlite's message holds the byte, which is no UTF-8
        path.write_bytes(path.read_bytes().replace(b"CREATE TABLE state", b"CREATE TABL\x80 state"))
    elif how == "pages":
        data = path.read_bytes()
        path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    else:
        if how == FOREIGN:
            path.unlink()
        connection = sqlite3.connect(path)
        connection.executescript(how)
        connection.close()


@pytest.mark.parametrize("how", ["text", "half", "pages", "schema", FOREIGN, TRIGGER])
def test_a_damaged_or_foreign_database_counts_as_absent_after_one_notice(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[str] = []
    monkeypatch.setattr(database, "say", notices.append)
    filled(tmp_path / "w")
    damage(tmp_path / "w", how)
    with opened(tmp_path / "w") as log:
        assert len(log) == 0
        log.add("a", 1)
    assert len(notices) == 1
    assert "is damaged or no work log" in notices[0]
    with opened(tmp_path / "w") as log:
        assert list(log.values()) == [1]


def test_after_a_power_cut_only_what_was_on_the_disk_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync comes once 10 s have passed: after the items at 4 s and 11 s, not the one at 12 s."""
    times = iter([0.0, 4.0, 11.0, 11.0, 12.0])
    log = WorkLog(tmp_path / "w", "a", NUMBER, clock=lambda: next(times))
    with pytest.raises(RuntimeError), log:
        for item in range(3):
            log.add(item, item)
        raise RuntimeError
    with opened(tmp_path / "w") as again:
        assert list(again.values()) == [0, 1, 2]  # killed, and nothing more
    monkeypatch.setattr(database, "_boot_id", lambda: "another boot")
    with opened(tmp_path / "w") as again:
        assert list(again.values()) == [0, 1]
    with opened(tmp_path / "w") as again:
        assert list(again.values()) == [0, 1]


@pytest.mark.parametrize("change", [None, "UPDATE items SET value = '7' WHERE key = '2'"])
def test_an_item_that_was_done_again_counts_as_new_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str | None
) -> None:
    """Items 0 to 2 are on the disk; then the last is done again, replaced or after damage."""
    filled(tmp_path / "w")
    if change:
        connection = sqlite3.connect(tmp_path / "w")
        connection.execute(change)
        connection.commit()
        connection.close()
    with pytest.raises(RuntimeError), opened(tmp_path / "w") as log:
        log.add(2, 99)
        raise RuntimeError
    monkeypatch.setattr(database, "_boot_id", lambda: "another boot")
    with opened(tmp_path / "w") as log:
        assert list(log.values()) == [0, 10]


def test_a_log_that_was_closed_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "w")
    monkeypatch.setattr(database, "_boot_id", lambda: "another boot")
    with opened(tmp_path / "w") as log:
        assert len(log) == 3


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_what_a_link_in_the_logs_place_leads_to_stays_as_it_is(
    tmp_path: Path, suffix: str, link: object
) -> None:
    own = tmp_path / "thesis.tex"
    own.write_text("mine")
    assert callable(link)
    link(own, tmp_path / f"w{suffix}")
    filled(tmp_path / "w")
    assert own.read_text() == "mine"


def test_a_log_that_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    with pytest.raises(DataError, match=r"w: cannot be written"):
        opened(tmp_path / "w")
    with pytest.raises(DataError, match=r"w: cannot be written"):
        opened(tmp_path / "none" / "w")


def test_the_key_of_a_folder_is_read_back(tmp_path: Path) -> None:
    assert read_key(tmp_path) is None
    (tmp_path / WORK).mkdir()
    write_key(tmp_path, "a key")
    with opened(tmp_path / LOG) as log:
        log.add("a", 1)
    assert read_key(tmp_path) == "a key"
    (tmp_path / LOG).write_bytes(b"x" * 5000)
    with pytest.raises(DataError, match=r"damaged or no work log.*add --overwrite"):
        read_key(tmp_path)
    assert (tmp_path / LOG).read_bytes() == b"x" * 5000
