"""Output folders that a stopped or second process works in."""

from __future__ import annotations

import errno
import multiprocessing
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from output_folders import finish, make

from pipeline.errors import DataError
from pipeline.io import folders
from pipeline.io.folders import resumable_folder, whole_folder
from pipeline.io.manifest import WORK
from pipeline.io.work_log import LOG
from pipeline.io.write import make_folder

Enter = Callable[[Path], AbstractContextManager[Path]]


@pytest.mark.parametrize("litter", [".out.part", ".out.old"])
def test_what_a_killed_run_left_is_cleared_and_never_comes_back(
    tmp_path: Path, litter: str
) -> None:
    make(tmp_path / "out", {"a": "1"})
    make_folder(tmp_path / litter)
    (tmp_path / litter / "deleted.png").touch()
    make(tmp_path / "out", {"b": "2"})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir())[0] == "b"


def test_an_output_that_a_killed_run_had_moved_away_is_put_back(tmp_path: Path) -> None:
    make(tmp_path / "out", {"a": "1"})
    (tmp_path / "out").rename(tmp_path / ".out.old")
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "out", "job"):
        raise RuntimeError
    assert (tmp_path / "out" / "a").read_text() == "1"


def test_without_an_exchange_in_the_system_a_folder_still_takes_the_others_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    make(tmp_path / "out", {"a": "1"})
    make(tmp_path / "out", {"b": "2"})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "b").exists()


def test_a_link_in_the_place_of_a_temporary_folder_is_removed_and_not_followed(
    tmp_path: Path,
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.tex").touch()
    for name in (".out.part", ".other.unfinished"):
        (tmp_path / name).symlink_to(own)
    make(tmp_path / "out", {"a": "1"})
    with (
        pytest.raises(DataError, match="stopped"),
        resumable_folder(tmp_path / "other", "job", "key"),
    ):
        pass
    with resumable_folder(tmp_path / "other", "job", "key", overwrite=True) as folder:
        finish(folder)
    assert [path.name for path in own.iterdir()] == ["thesis.tex"]


def test_unfinished_work_is_there_again_for_the_same_call_alone(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), resumable_folder(target, "job", "a") as folder:
        (folder / "empty").touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())  # there was nothing to go on from
    for _ in range(2):
        with pytest.raises(RuntimeError), resumable_folder(target, "job", "a") as folder:
            with (folder / "half").open("a") as stream:
                stream.write("1")
            raise RuntimeError
    with pytest.raises(DataError, match="--overwrite"), resumable_folder(target, "job", "b"):
        pass
    with resumable_folder(target, "job", "a") as folder:
        assert (folder / "half").read_text() == "11"
        (folder / WORK / "journal").touch()
        finish(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(p.name for p in target.iterdir()) == ["half", "manifest.jsonl", "run.json"]


def test_only_overwrite_drops_unfinished_work_of_other_settings(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), resumable_folder(target, "job", "a") as folder:
        (folder / "half").write_text("1")
        raise RuntimeError
    with resumable_folder(target, "job", "b", overwrite=True) as folder:
        assert not (folder / "half").exists()
        finish(folder)


@pytest.mark.parametrize("key", ["a", "b"])
def test_work_with_a_damaged_log_is_refused_until_overwrite(tmp_path: Path, key: str) -> None:
    """Nothing says any more which settings the work comes from."""
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), resumable_folder(target, "job", "a") as folder:
        (folder / "half").write_text("1")
        raise RuntimeError
    log = tmp_path / ".out.unfinished" / LOG
    log.write_bytes(b"x" * 5000)
    refused = pytest.raises(DataError, match=r"work\.sqlite: is damaged .*--overwrite")
    with refused, resumable_folder(target, "job", key):
        pass
    assert (log.parent.parent / "half").read_text() == "1"
    with resumable_folder(target, "job", key, overwrite=True) as folder:
        assert not (folder / "half").exists()
        finish(folder)


def test_a_full_disk_is_one_line_with_the_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"out: cannot be written \(No space left"),
        whole_folder(tmp_path / "out", "job"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def _write_there(path: Path, answers: multiprocessing.Queue[str]) -> None:
    try:
        with whole_folder(path, "job"):
            answers.put("wrote")
    except DataError as error:
        answers.put(str(error))


@pytest.mark.parametrize(
    "enter", [lambda p: whole_folder(p, "job"), lambda p: resumable_folder(p, "job", "a")]
)
def test_two_processes_do_not_write_one_folder(tmp_path: Path, enter: Enter) -> None:
    out = tmp_path / "out"
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_write_there, args=(out, answers))
    with enter(out):
        with pytest.raises(DataError, match="is being written by process"), whole_folder(out, "x"):
            pass  # nor two threads of one process
        process.start()
        message = answers.get(timeout=60)
        process.join()
        assert f"is being written by process {os.getpid()} (`pipeline job`" in message
    assert not (tmp_path / ".out.lock").exists()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".out.lock").write_text('{"pid": 1, "command": "job"}')
    make(tmp_path / "out", {"a": "1"})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_lock_that_its_holder_removes_meanwhile_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the file and locking it, its holder ends and unlinks it."""
    from pipeline.io import locks

    opened: list[Path] = []

    def unlinked_first(stream: object) -> None:
        if not opened:
            (tmp_path / ".out.lock").unlink()
        opened.append(tmp_path)

    monkeypatch.setattr(locks, "_lock", unlinked_first)
    with locks.folder_lock(tmp_path / "out", "job"):
        assert len(opened) == 2
        assert (tmp_path / ".out.lock").exists()
