from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.io import folders
from pipeline.io.folders import resumable_folder, whole_folder
from pipeline.io.manifest import WORK, write_manifest
from pipeline.io.work_log import LOG
from pipeline.io.write import make_folder, place_file, write_text

Enter = Callable[[Path], AbstractContextManager[Path]]


def finish(folder: Path, command: str = "job") -> None:
    """What RunRecord.write leaves, last of all."""
    write_manifest(folder, {"command": command})


def make(path: Path, files: dict[str, str], command: str = "job") -> None:
    with whole_folder(path, command) as folder:
        for name, text in files.items():
            write_text(folder / name, text)
        finish(folder, command)


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), whole_folder(target, "job") as folder:
        (folder / "part").touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    make(target, {"a": "1"})
    make(target, {"b": "2"})  # our own may be replaced
    assert sorted(path.name for path in target.iterdir()) == ["b", "manifest.jsonl", "run.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_somebody_elses_folder_is_never_replaced(tmp_path: Path) -> None:
    own = tmp_path / "mine" / "thesis.tex"
    own.parent.mkdir()
    own.touch()
    with pytest.raises(DataError, match="did not write"), whole_folder(own.parent, "job"):
        pass
    assert own.exists()


def add(name: str, text: str) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(text)

    return change


def link(out: Path) -> None:
    own = out.parent / "own"
    own.write_text("x")
    (out / "linked").hardlink_to(own)


def older(out: Path) -> None:
    (out / "old.txt").write_text("from last year")
    os.utime(out / "old.txt", (0, 0))


def edit_keeping_time_and_size(out: Path) -> None:
    before = (out / "a").stat()
    (out / "a").write_text("2")
    os.utime(out / "a", ns=(before.st_atime_ns, before.st_mtime_ns))


def symlink(out: Path) -> None:
    (out / "a").rename(out.parent / "a")
    (out / "a").symlink_to(out.parent / "a")


def folder_link(out: Path) -> None:
    (out / "more").symlink_to(out.parent)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (add("notes.txt", "mine"), r"notes\.txt: was not written by the run"),
        (add("a", "longer"), r"a: was changed after the run"),
        (edit_keeping_time_and_size, r"a: was changed after the run"),
        (add("run.json", '{"command": "job", "more": 1}'), r"run\.json: was changed"),
        (link, r"linked: was not written"),
        (older, r"old\.txt: was not written"),
        (symlink, r"a: was changed"),
        (folder_link, r"more: was not written"),
        (add("b/run.json", '{"command": "job"}'), r"b/run\.json: was not written"),
        (add(".hidden", "mine"), r"\.hidden: was not written"),
        (add("run.json", "[]"), r"run\.json: is not what a command"),
        (add("run.json", "null"), r"run\.json: is not what a command"),
        (add("run.json", '{"command": "other"}'), r"holds what `pipeline other` wrote"),
        (add("run.json", '{\n "command": "job"\n}\n'), r"run\.json: was changed"),
        (add("manifest.jsonl", "[]\n"), r"manifest\.jsonl: is damaged"),
        (add("manifest.jsonl", '{"path": "a", "size": 1}\n'), r"manifest\.jsonl: was changed"),
        (lambda out: (out / "manifest.jsonl").unlink(), r"holds no manifest\.jsonl"),
    ],
)
def test_a_folder_that_holds_anything_but_what_its_run_wrote_stays_as_it_is(
    tmp_path: Path, change: Callable[[Path], None], reason: str
) -> None:
    out = tmp_path / "out"
    make(out, {"a": "1"})
    change(out)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(DataError, match=reason), whole_folder(out, "job"):
        raise AssertionError("the work must not begin")
    after = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    "change",
    [
        lambda out: os.utime(out / "run.json"),  # touched
        lambda out: os.utime(out / "a", (2**31, 2**31)),  # times say nothing
        lambda out: (out / "a").unlink(),  # nothing to lose
        add(".DS_Store", "a file manager's"),
    ],
)
def test_what_changes_no_content_is_no_reason_to_refuse(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    make(out, {"a": "1"})
    change(out)
    make(out, {"b": "2"})
    assert not (out / "a").exists()


def test_a_run_file_that_lies_in_somebody_elses_folder_does_not_make_it_ours(
    tmp_path: Path,
) -> None:
    make(tmp_path / "out", {"a": "1"})
    own = tmp_path / "mine"
    shutil.copytree(tmp_path / "out", own)
    (own / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"thesis\.tex: was not written"), whole_folder(own, "job"):
        pass


def test_a_linked_photo_may_go_with_its_folder_unless_it_is_the_only_copy(tmp_path: Path) -> None:
    photo, out = tmp_path / "photo.png", tmp_path / "out"

    def linked() -> None:
        with whole_folder(out, "job") as folder:
            place_file(photo, folder / "photo.png", copy=False)
            place_file(photo, folder / "segment" / "photo.png", copy=False)
            finish(folder)

    photo.write_text("pixels")
    linked()
    photo.write_text("pixels, taken again")  # a link changes with its file
    linked()
    assert (out / "photo.png").samefile(photo)
    photo.unlink()
    with pytest.raises(DataError, match=r"photo\.png: is the only copy left"):
        make(out, {})
    assert (out / "photo.png").read_text() == "pixels, taken again"


def test_figures_inside_a_folder_go_with_it_as_long_as_they_are_as_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, {"a": "1"})
    make(out / "evaluation", {"figures": "1"}, "evaluate")
    make(out, {"a": "2"})
    assert not (out / "evaluation").exists()
    make(out / "evaluation", {"figures": "1"}, "evaluate")
    (out / "evaluation" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"evaluation/notes\.txt: was not written"):
        make(out, {"a": "3"})


def test_what_a_person_puts_there_while_a_command_runs_is_kept_aside(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, {"a": "1"})
    with whole_folder(out, "job") as folder:
        (out / "notes.txt").write_text("mine")
        finish(folder)
    assert not (out / "notes.txt").exists()
    assert (tmp_path / "out.kept1" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("output", "reads", "reason"),
    [
        (".", [], "is the folder you are in"),
        ("..", [], "is the folder you are in, or above it"),
        ("out", ["out"], "would be read from"),
        ("out", ["out/data"], "would be read from"),
        ("data/out", ["data"], "lies inside data, which `job` reads"),
    ],
)
def test_an_output_that_cannot_be_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, reads: list[str], reason: str
) -> None:
    (tmp_path / "here" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    for enter in (
        whole_folder(Path(output), "job", [Path(name) for name in reads]),
        resumable_folder(Path(output), "job", "key", [Path(name) for name in reads]),
    ):
        with pytest.raises(DataError, match=reason), enter:
            pass
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["data"]


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
