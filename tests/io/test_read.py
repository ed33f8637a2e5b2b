from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from pipeline.errors import DataError
from pipeline.io.read import checked, read_bytes, read_json, read_text, read_xml, read_yaml

BOMB = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_an_empty_file_is_empty_text_and_no_json(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    assert read_text(path) == ""
    with pytest.raises(DataError, match="is not JSON"):
        read_json(path)
    assert read_yaml(path) is None


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "nothing", "link to nothing"])
def test_only_a_regular_file_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    make: dict[str, Callable[[], object]] = {
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "device": lambda: path.symlink_to("/dev/zero"),
        "nothing": lambda: None,
        "link to nothing": lambda: path.symlink_to(tmp_path / "b"),
    }
    make[kind]()
    with pytest.raises(DataError, match=r"a: (is not a regular file|no such file)"):
        read_bytes(path)


def test_a_name_that_cannot_be_one_is_one_line() -> None:
    with pytest.raises(DataError, match="not a valid file name"):
        read_bytes(Path("a\0b"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "is not usable JSON"),
        ('{"a": }', "line 1 column 7"),
    ],
)
def test_json_beyond_all_sense_is_one_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(DataError, match=reason):
        read_json(tmp_path / "a")


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "!!python/object/apply:os.system [id]",
        "a: *b",
        "? [a]\n: 1",
        "- &a [*a]",
        "a: [" * 3000,
    ],
)
def test_yaml_makes_no_object_and_no_bomb(tmp_path: Path, text: str) -> None:
    """BOMB: ten aliases of nine, each holding the one before: 2 * 9^8 nodes, in 400 bytes."""
    (tmp_path / "a").write_text(text)
    with pytest.raises(DataError, match="is not YAML"):
        read_yaml(tmp_path / "a")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<a>",
        '<?xml version="1.0" encoding="klingon"?><a/>',
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><a>&b;</a>',
    ],
)
def test_xml_is_read_without_entities_or_unknown_encodings(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(DataError, match="is not readable XML"):
        read_xml(tmp_path / "a")


def test_a_value_of_another_kind_is_named_with_its_place() -> None:
    kind = TypeAdapter(dict[str, list[int]])
    with pytest.raises(DataError, match=r"f\.json: annotation 7 bbox\[1\]: input should be"):
        checked(kind, {"bbox": [1, []]}, Path("f.json"), "annotation 7")
    assert checked(kind, {"bbox": [1, 2]}, Path("f.json")) == {"bbox": [1, 2]}
