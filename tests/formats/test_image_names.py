from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.formats.image_names import ImageFinder


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_an_empty_folder_holds_no_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png: no such image"):
        ImageFinder(tmp_path).find("a.png")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a.png", "a.png"),
        ("line 1/b.png", "line 1/b.png"),
        ("line%201/b.png", "line 1/b.png"),
        ("line 1\\b.png", "line 1/b.png"),
        ("D:\\photos\\line 1\\b.png", "line 1/b.png"),
        ("D:/photos/a.png", "a.png"),
        ("/home/you/photos/a.png", "a.png"),
        ("..\\label\\a.png", "a.png"),
        ("../../a.png", "a.png"),
        ("./images/a.png", "a.png"),
        ("s3://bucket/photos/line 1/b.png", "line 1/b.png"),
        ("https://host/x/a.png?X-Sign=1&e=2", "a.png"),
        ("a.png?X-Sign=1", "a.png"),
        ("100%.png", "100%.png"),
        ("a", "a.png"),
        ("Pr\u00fcfling.png", unicodedata.normalize("NFD", "Pr\u00fcfling.png")),
    ],
)
def test_a_name_of_another_machine_finds_its_image(tmp_path: Path, name: str, place: str) -> None:
    decomposed = unicodedata.normalize("NFD", "Pr\u00fcfling.png")
    root = folder_of(tmp_path, "a.png", "line 1/b.png", "100%.png", decomposed)
    assert ImageFinder(root).find(name) == (root / place, place)


def test_of_two_images_with_one_name_the_folder_decides(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "left/1.png", "right/1.png")
    assert ImageFinder(root).find("/data/right/1.png")[1] == "right/1.png"
    with pytest.raises(DataError, match=r"may be left/1\.png or right/1\.png"):
        ImageFinder(root).find("1.png")


def test_of_two_images_one_whose_whole_path_ends_the_name_comes_first(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "a.png", "train/a.png")
    assert ImageFinder(root).find("images/a.png")[1] == "a.png"
    assert ImageFinder(root).find("images/train/a.png")[1] == "train/a.png"


def test_an_image_of_exactly_the_name_comes_before_others_alike(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "a%20b.png", "a b.png")
    assert ImageFinder(root).find("a%20b.png")[1] == "a%20b.png"


@pytest.mark.parametrize("name", ["", "..", "/", "a\x00.png", "x" * 300])
def test_a_name_that_no_file_can_have_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot hold an image"):
        ImageFinder(tmp_path).find(name)
