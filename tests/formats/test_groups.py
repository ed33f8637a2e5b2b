from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.formats.groups import group_by, group_file
from pipeline.types import Dataset, ImageRecord

ROOT = Path("/data/tiles")


def tiles(*names: str) -> Dataset:
    """Images at paths below ROOT, each a group of its own."""
    records = [
        ImageRecord(row + 1, ROOT / name, f"set_{row}.png", 8, 8, "tiles", group=f"own{row}")
        for row, name in enumerate(names)
    ]
    return Dataset((), tuple(records))


def groups(dataset: Dataset, by: str) -> list[str]:
    return [record.group for record in group_by(dataset, by, [ROOT]).dataset.records]


def test_a_group_is_what_the_first_parenthesis_finds_in_the_stem() -> None:
    dataset = tiles("a/tile1_x.png", "b/tile1_y.png", "b/tile2.png")
    assert groups(dataset, r"^(tile\d)") == ["tiles/tile1", "tiles/tile1", "tiles/tile2"]


def test_a_pattern_with_a_slash_is_searched_in_the_path_of_the_set() -> None:
    assert groups(tiles("a/1.png", "b/2.png"), r"^(\w)/") == ["tiles/a", "tiles/b"]


def test_an_image_without_a_match_is_alone_and_counted() -> None:
    found = group_by(tiles("tile1.png", "other.png"), r"(tile\d)", [ROOT])
    assert [record.group for record in found.dataset.records] == ["tiles/tile1", "own1"]
    assert found.unmatched == 1


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("x", "needs a parenthesis"), ("(", "not a regular expression"), ("(y+)", "finds no group")],
)
def test_a_pattern_that_cannot_group_is_one_line(pattern: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        group_by(tiles("x.png"), pattern, [ROOT])


def test_none_keeps_the_groups_of_the_layout() -> None:
    assert groups(tiles("a.png", "b.png"), "none") == ["own0", "own1"]


@pytest.mark.parametrize(
    "text",
    [
        "image,group\na/1.png,x\nb/2.png,x\n",
        "a/1.png;x\r\n2.png;x\r\n\r\n",  # another mark, a bare name, an empty line
        "tiles/a/1.png\tx\n./b/2.png\tx",
    ],
)
def test_a_table_names_images_by_their_path_or_their_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "groups.csv").write_text(text)
    assert groups(tiles("a/1.png", "b/2.png"), str(tmp_path / "groups.csv")) == ["x", "x"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a/1.png,x\nb/1.png,x\nc/3.png,x\n", "line 3 names 'c/3.png', which is no image of the"),
        ("a/1.png,x\n", "leaves out 1 images, such as 'b/1.png'"),
        ("1.png,x\n", "2 images have the name '1.png'; add its folder"),
        ("a/1.png,x\na/1.png,y\n", "puts 'a/1.png' into a second group"),
        ("a/1.png\n", "line 1 is not an image and its group"),
        ("", "leaves out 2 images"),
        ('"' + "x" * 200_000 + '",y\n', "is not a CSV file"),
    ],
)
def test_a_table_that_does_not_fit_the_set_is_one_line(
    tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DataError, match=reason):
        group_by(tiles("a/1.png", "b/1.png"), str(tmp_path / "groups.csv"), [ROOT])


def test_a_table_that_is_missing_is_no_pattern(tmp_path: Path) -> None:
    assert group_file(str(tmp_path / "groups.csv")) == tmp_path / "groups.csv"
    with pytest.raises(DataError, match="no such file"):
        group_by(tiles("a.png"), str(tmp_path / "groups.csv"), [ROOT])
