from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
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


@pytest.mark.parametrize(
    ("declared", "codec", "text"),
    [
        ("GB2312", "gb2312", "划痕"),
        ("gbk", "gbk", "劃痕"),  # not in GB2312
        ("GB2312", "gbk", "劃痕"),  # as Windows writes what it calls GB2312
        ("GB18030", "gb18030", "㐂"),
        ("Big5", "big5", "劃痕"),
        ("Shift_JIS", "cp932", "①傷"),
        ("EUC-JP", "euc_jp", "傷"),
        ("euc-kr", "euc_kr", "흠집"),
    ],
)
def test_xml_is_read_in_the_encoding_that_it_declares(
    tmp_path: Path, declared: str, codec: str, text: str
) -> None:
    content = f"<?xml version='1.0' encoding='{declared}'?>\r\n<a>{text}</a>"
    (tmp_path / "a").write_bytes(content.encode(codec))
    assert read_xml(tmp_path / "a").text == text


def test_xml_that_is_not_in_the_encoding_that_it_declares_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'<?xml version="1.0" encoding="GBK"?><a>\xff\xff</a>')
    with pytest.raises(DataError, match=r"declares GBK, and is not GBK text \(byte 39\); save it"):
        read_xml(tmp_path / "a")


@pytest.mark.parametrize("declared", ["utf-8", "gbk"])
@pytest.mark.parametrize("entity", ["bomb", "file"])
def test_no_encoding_opens_a_door_to_entities(tmp_path: Path, declared: str, entity: str) -> None:
    """Ten entities, each of ten of the one before: 10^10 letters from some hundred bytes."""
    names = "abcdefghij"
    rows = "".join(f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in pairwise(names))
    bomb = f'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{rows}]><x>&j;</x>'
    file = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><x>&a;</x>'
    content = f"<?xml version='1.0' encoding='{declared}'?>{bomb if entity == 'bomb' else file}"
    (tmp_path / "a").write_text(content)
    with pytest.raises(DataError, match="is not readable XML"):
        read_xml(tmp_path / "a")


def test_a_value_of_another_kind_is_named_with_its_place() -> None:
    kind = TypeAdapter(dict[str, list[int]])
    with pytest.raises(DataError, match=r"f\.json: annotation 7 bbox\[1\]: input should be"):
        checked(kind, {"bbox": [1, []]}, Path("f.json"), "annotation 7")
    assert checked(kind, {"bbox": [1, 2]}, Path("f.json")) == {"bbox": [1, 2]}
