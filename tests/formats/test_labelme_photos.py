"""Which photo a file of LabelMe means."""

from __future__ import annotations

from pathlib import Path

import pytest
from labelme_of_others import photo, place

from pipeline.errors import DataError, Faults
from pipeline.formats.labelme_reader import read_labelme
from pipeline.formats.source import SourceLog
from pipeline.io.images import read_image
from pipeline.types import Dataset


def values(dataset: Dataset) -> dict[str, float]:
    """The value of each photo by its name in the dataset."""
    return {record.file_name: read_image(record.path).mean() for record in dataset.records}


def test_embedded_photos_of_one_name_stay_apart(tmp_path: Path) -> None:
    for value, name in enumerate(("a/1.json", "b/1.json", "b/2.json", "b/3.json")):
        data = photo(tmp_path / "gone.png", value)
        place(tmp_path / "set" / name, "image.png", data)
    dataset = read_labelme(tmp_path / "set")
    assert values(dataset) == {"a/1.png": 0, "b/1.png": 1, "b/2.png": 2, "b/3.png": 3}


def test_an_embedded_photo_has_no_name_that_another_photo_has(tmp_path: Path) -> None:
    """1.json holds its photo, but 1.png is the photo of 2.json."""
    place(tmp_path / "set" / "1.json", "x.png", photo(tmp_path / "gone.png", 5))
    photo(tmp_path / "set" / "1.png", 6)
    place(tmp_path / "set" / "2.json", "1.png")
    dataset = read_labelme(tmp_path / "set")
    assert sorted(values(dataset).values()) == [5, 6]
    assert len(values(dataset)) == 2


def test_a_photo_in_other_letters_is_found_where_it_is_the_only_one(tmp_path: Path) -> None:
    photo(tmp_path / "one" / "A.PNG", 5)
    place(tmp_path / "one" / "x.json", "a.png")
    assert values(read_labelme(tmp_path / "one")) == {"A.PNG": 5}
    for name in ("A.PNG", "a.Png"):
        photo(tmp_path / "two" / name)
    place(tmp_path / "two" / "x.json", "a.png")
    with pytest.raises(DataError, match=r"x\.json: its photo a\.png: may be A\.PNG or a\.Png"):
        read_labelme(tmp_path / "two")


def test_the_photo_of_another_camera_is_not_taken(tmp_path: Path) -> None:
    place(tmp_path / "cam1" / "0001.json", "0001.png")
    photo(tmp_path / "cam2" / "0001.png")
    with pytest.raises(DataError, match=r"cam1/0001\.json: its photo '0001\.png' is not there"):
        read_labelme(tmp_path)
    place(tmp_path / "cam2" / "0001.json", "0001.png")
    log = SourceLog(Faults(keep_going=True))
    assert list(values(read_labelme(tmp_path, None, log))) == ["cam2/0001.png"]
    assert "cam1/0001.json" in str(log.faults.errors[0])


def test_of_files_that_name_one_photo_the_one_of_its_name_has_it(tmp_path: Path) -> None:
    photo(tmp_path / "1.png", 1)
    place(tmp_path / "0.json", "1.png", photo(tmp_path.parent / "gone.png", 7))
    place(tmp_path / "1.json", "1.png")
    assert values(read_labelme(tmp_path)) == {"0.png": 7, "1.png": 1}
    place(tmp_path / "2.json", "1.png")
    with pytest.raises(DataError, match=r"2\.json: names the photo '1\.png', .* 1\.json too"):
        read_labelme(tmp_path)


def test_files_that_all_name_one_photo_have_those_of_their_own_names(tmp_path: Path) -> None:
    for value in (1, 2):
        photo(tmp_path / f"{value}.png", value)
        place(tmp_path / f"{value}.json", "C:\\photos\\image.png")
    assert values(read_labelme(tmp_path)) == {"1.png": 1, "2.png": 2}


PLACES = {
    "beside, from Windows": ("a.json", "D:\\old\\a.png", "a.png"),
    "labels and images": ("labels/cam/a.json", "a.png", "images/cam/a.png"),
    "a folder of labels below": ("cam/json/a.json", "a.png", "cam/a.png"),
    "up and down": ("labels/cam/a.json", "..\\..\\raw\\cam\\a.png", "raw/cam/a.png"),
    "another suffix": ("cam/a.json", "a.bmp", "cam/a.png"),
    "a renamed pair": ("cam/a.json", "IMG_7.png", "cam/a.png"),
    "the end of a path": ("a.json", "/home/x/raw/cam/a.png", "set/cam/a.png"),
}


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES.keys())
def test_a_photo_is_found_where_tools_and_people_put_it(
    tmp_path: Path, places: tuple[str, str, str]
) -> None:
    place(tmp_path / places[0], places[1])
    photo(tmp_path / places[2])
    assert [record.file_name for record in read_labelme(tmp_path).records] == [places[2]]


def test_a_folder_of_images_has_the_same_folders_below(tmp_path: Path) -> None:
    for cam in ("cam1", "cam2"):
        place(tmp_path / "labels" / cam / "1.json", "1.png")
        photo(tmp_path / "photos" / cam / "1.png")
    dataset = read_labelme(tmp_path / "labels", tmp_path / "photos")
    assert list(values(dataset)) == ["cam1/1.png", "cam2/1.png"]
    (tmp_path / "photos" / "cam1" / "1.png").unlink()
    with pytest.raises(DataError, match=r"cam1/1\.json: its photo '1\.png' is not there"):
        read_labelme(tmp_path / "labels", tmp_path / "photos")
