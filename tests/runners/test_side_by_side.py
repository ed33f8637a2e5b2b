"""Different works in processes of their own. Their functions are of the standard library and of
this program: a new process knows no test."""

from __future__ import annotations

import io
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import DataError, PipelineError
from pipeline.io.images import read_image
from pipeline.runners.side_by_side import Done, side_by_side
from pipeline.runtime import progress

SLEEP = partial(time.sleep, 600)


@pytest.mark.parametrize(("at_once", "threads"), [(1, "4"), (2, "2"), (3, "1"), (8, "1")])
def test_each_work_has_its_share_of_the_threads(
    monkeypatch: pytest.MonkeyPatch, at_once: int, threads: str
) -> None:
    monkeypatch.setattr("pipeline.runners.side_by_side.computing_threads", lambda: 4)
    works = {"a": partial(os.getenv, "OMP_NUM_THREADS"), "b": partial(os.getenv, "OMP_WAIT_POLICY")}
    assert set(side_by_side(works, at_once)) == {Done("a", threads), Done("b", "PASSIVE")}


def test_nothing_to_do_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert list(side_by_side({}, 2)) == []


def test_one_process_does_one_work_after_the_other_in_new_processes() -> None:
    done = list(side_by_side(dict.fromkeys("abc", os.getpid), 1))
    assert [name for name, _ in done] == ["a", "b", "c"]
    assert len({result for _, result in done} | {os.getpid()}) == 4


def test_an_error_is_raised_as_it_was_and_the_other_work_is_stopped(tmp_path: Path) -> None:
    works: dict[str, Callable[[], object]] = {
        "slow": SLEEP,
        "bad": partial(read_image, tmp_path / "none.png"),
    }
    with pytest.raises(DataError, match=r"none\.png"):
        list(side_by_side(works, 2))


def test_a_fault_of_the_program_keeps_its_place() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(side_by_side({"bad": partial(operator.truediv, 1, 0)}, 2))
    assert "one_work.py" in caught.value.__notes__[0]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_process_that_is_killed_is_one_line_with_the_name_of_its_work() -> None:
    with pytest.raises(PipelineError, match=r"^train: its process was killed, .*at-once 1$"):
        list(side_by_side({"train": partial(signal.raise_signal, signal.SIGKILL)}, 2))


PARENT = """
import time
from collections.abc import Callable
from functools import partial
from pipeline.runners.side_by_side import side_by_side
for name, result in side_by_side({"quick": partial(print, "x"), "slow": partial(time.sleep, 600),
                                  "slower": partial(time.sleep, 600)}, 3):
    print(name, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_works_end_when_their_parent_is_killed() -> None:
    """They hold its stderr open."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert parent.stdout and parent.stdout.readline() == b"quick\n"
    parent.kill()
    assert parent.communicate() == (b"", b"x\n")


def test_messages_come_with_the_name_of_their_work(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.setattr(progress, "_quiet", False)
    list(side_by_side({"train": partial(progress.say, "half done")}, 2))
    assert stream.getvalue() == "train: half done\n"
    stream.truncate(0)
    monkeypatch.setattr(progress, "_quiet", True)
    list(side_by_side({"train": partial(progress.say, "half done")}, 2))
    assert stream.getvalue() == ""
