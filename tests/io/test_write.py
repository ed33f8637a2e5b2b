from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.io.read import files_below
from pipeline.io.write import (
    make_folder,
    place_file,
    remove_tree,
    whole_file,
    write_json,
    write_text,
    writing_below,
)


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


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("n" * 255), "x")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["x"]


def test_text_that_is_no_unicode_is_one_line_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt: would hold text that is not Unicode"):
        write_text(tmp_path / "a.txt", "caf\udce9")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.txt", "deep/a.txt", "../a.txt", "link/a.txt", "link/new/a"])
def test_while_an_output_folder_is_open_nothing_is_written_outside_it(
    tmp_path: Path, name: str
) -> None:
    """`link` is a folder inside that leads out, as a name or an archive could plant it."""
    out, outside = tmp_path / "out", tmp_path / "outside"
    for folder in (out, outside):
        folder.mkdir()
    (out / "link").symlink_to(outside)
    source = tmp_path / "source"
    source.touch()
    inside = name in {"a.txt", "deep/a.txt"}
    for write in (
        lambda: write_text(out / name, "x"),
        lambda: place_file(source, out / name, copy=False),
        lambda: place_file(source, out / name, copy=True),
        lambda: make_folder((out / name).parent / "folder"),
    ):
        with writing_below(out):
            if inside:
                write()
            elif write is not None and ".." not in name:
                with pytest.raises(DataError, match="lies outside the folder that is written"):
                    write()
    assert not list(outside.iterdir())
    assert (out / name).exists() == inside


def test_a_cache_elsewhere_is_written_by_naming_its_folder(tmp_path: Path) -> None:
    make_folder(tmp_path / "out")
    with writing_below(tmp_path / "out"):
        with whole_file(tmp_path / "cache" / "a", root=tmp_path / "cache") as temporary:
            temporary.write_text("x")
        with pytest.raises(DataError, match="lies outside"):
            write_text(tmp_path / "b", "x")
    write_text(tmp_path / "b", "x")  # the folder is closed


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


def test_a_link_is_removed_and_what_it_leads_to_is_not(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "own")
    remove_tree(tmp_path / "link")
    remove_tree(tmp_path / "nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_files_are_listed_without_what_is_hidden_or_was_made_there(tmp_path: Path) -> None:
    for name in ("run.json", "b.png", "a/c.png", ".d.png", ".e/f.png", "made/run.json", "made/g"):
        write_json(tmp_path / name, {})
    found = [Path(path).relative_to(tmp_path).as_posix() for path in files_below(tmp_path)]
    assert found == ["b.png", "run.json", "a/c.png"]  # the folder's own run.json ends no search
    assert not list(files_below(tmp_path / "nowhere"))
