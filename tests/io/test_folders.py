from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from output_folders import finish, make

from pipeline.errors import DataError
from pipeline.io.folders import resumable_folder, whole_folder
from pipeline.io.write import place_file


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
