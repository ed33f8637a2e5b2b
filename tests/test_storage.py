from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.io.folders import whole_folder
from pipeline.io.read import files_below
from pipeline.io.write import place_file, whole_file, write_json


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), whole_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_line_with_the_path(tmp_path: Path) -> None:
    message = r"a\.txt: cannot be written \(No space left"
    with pytest.raises(DataError, match=message), whole_file(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), whole_folder(target, "job") as folder:
        (folder / "part").touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with whole_folder(target, "job") as folder:
        write_json(folder / "run.json", {"command": "job"})
    with whole_folder(target, "job") as folder:  # our own may be replaced
        (folder / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]


def test_somebody_elses_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DataError, match="did not write"), whole_folder(tmp_path, "job"):
        pass
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("inside", "reads", "reason"),
    [
        ({"run.json": {"command": "other"}}, [], "holds what `pipeline other` wrote"),
        ({"run.json": {"command": "job"}}, ["out/data"], "would be read from"),
        ({"run.json": {"command": "job"}}, ["out"], "would be read from"),
        (
            {"run.json": {"command": "job"}, "a/run.json": {"command": "b"}},
            [],
            "another run, in .*a",
        ),
        ({"run.json": {"command": "job"}, "a/started.json": {}}, [], "another run, in .*a"),
        ({"run.json": {"command": "job"}, ".a.unfinished/x": {}}, [], "another run"),
    ],
)
def test_a_folder_with_more_in_it_than_would_come_anew_is_never_replaced(
    tmp_path: Path, inside: dict[str, object], reads: list[str], reason: str
) -> None:
    for name, content in inside.items():
        write_json(tmp_path / "out" / name, content)
    sources = [tmp_path / name for name in reads]
    with pytest.raises(DataError, match=reason), whole_folder(tmp_path / "out", "job", sources):
        pass
    assert all((tmp_path / "out" / name).is_file() for name in inside)


@pytest.mark.parametrize(
    ("name", "later", "refused"),
    [
        ("labels.json", 3600, True),  # mended by hand
        ("labels.json", 0, False),
        ("labels.cache", 3600, False),
        (".DS_Store", 3600, False),
    ],
)
def test_what_was_changed_after_a_run_is_never_replaced_by_the_next(
    tmp_path: Path, name: str, later: float, refused: bool
) -> None:
    target = tmp_path / "out"
    with whole_folder(target, "job") as folder:
        write_json(folder / name, {})
        write_json(folder / "run.json", {"command": "job"})
    written = (target / "run.json").stat().st_mtime
    os.utime(target / name, (written + later, written + later))
    if refused:
        with (
            pytest.raises(DataError, match="was changed after the run"),
            whole_folder(target, "job"),
        ):
            pass
    else:
        with whole_folder(target, "job"):
            pass
    assert (target / name).is_file() == refused


def test_a_link_to_a_photo_that_was_taken_anew_may_be_replaced(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.touch()
    with whole_folder(tmp_path / "out", "job") as folder:
        place_file(photo, folder / "photo.png", copy=False)
        write_json(folder / "run.json", {"command": "job"})
    later = (tmp_path / "out" / "run.json").stat().st_mtime + 3600
    os.utime(photo, (later, later))
    with whole_folder(tmp_path / "out", "job"):
        pass
    assert not (tmp_path / "out" / "photo.png").exists()


def test_figures_of_what_is_replaced_go_with_it(tmp_path: Path) -> None:
    write_json(tmp_path / "out" / "run.json", {"command": "segment"})
    write_json(tmp_path / "out" / "evaluation" / "run.json", {"command": "evaluate"})
    with whole_folder(tmp_path / "out", "segment", [tmp_path / "boxes.json"]) as folder:
        (folder / "new").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]


def test_files_are_listed_without_what_is_hidden_or_was_made_there(tmp_path: Path) -> None:
    for name in ("run.json", "b.png", "a/c.png", ".d.png", ".e/f.png", "made/run.json", "made/g"):
        write_json(tmp_path / name, {})
    found = [Path(path).relative_to(tmp_path).as_posix() for path in files_below(tmp_path)]
    assert found == ["b.png", "run.json", "a/c.png"]  # the folder's own run.json ends no search
    assert not list(files_below(tmp_path / "nowhere"))


def test_the_same_value_gives_the_same_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"b": 1, "a": [2]})
    write_json(tmp_path / "b", {"a": [2], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("copy", [True, False])
def test_images_are_linked_or_copied(tmp_path: Path, copy: bool) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_text("x")
    place_file(source, target, copy)
    assert target.read_text() == "x"
    assert target.samefile(source) != copy
