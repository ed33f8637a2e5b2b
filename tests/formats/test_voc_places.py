"""Where the photos, lists and splits of foreign VOC sets are."""

from __future__ import annotations

from pathlib import Path

import pytest
from voc_of_others import BOX, read, written, xml

from pipeline.errors import DataError


@pytest.mark.parametrize(
    "name", ["", "a", "A.PNG", "renamed_later.png", "C:\\photos\\a.png", "sub/a.png"]
)
def test_the_photo_of_the_files_own_name_is_found(tmp_path: Path, name: str) -> None:
    root = written(tmp_path, {"Annotations/a.xml": xml(name)}, ("JPEGImages/a.png",))
    assert read(root)[0].records[0].file_name == "a.png"


def test_trainval_and_the_lists_of_a_category_are_no_splits(tmp_path: Path) -> None:
    lists = {"train": "a\n", "val": "b\n", "trainval": "a\nb\n", "crack_train": "a  1\n",
             "crack_trainval": "a  1\nb -1\n"}  # fmt: skip
    files = {f"ImageSets/Main/{name}.txt": text for name, text in lists.items()}
    files |= {f"Annotations/{name}.xml": xml(f"{name}.png") for name in "ab"}
    root = written(tmp_path, files, ("JPEGImages/a.png", "JPEGImages/b.png"))
    assert [record.split for record in read(root)[0].records] == ["train", "val"]


def test_a_folder_without_xml_of_voc_names_the_file(tmp_path: Path) -> None:
    root = written(tmp_path, {"a.xml": "<annotations/>"}, ("a.png",))
    with pytest.raises(DataError, match=r"a\.xml: is not Pascal VOC's XML; check --from"):
        read(root)


LISTS = {
    "a category's alone": {"ImageSets/Main/crack_val.txt": "a  1\n",
                           "ImageSets/Main/trainval.txt": "a\n"},
    "of segmentation": {"ImageSets/Segmentation/val.txt": "a\n"},
    "without a folder": {"ImageSets/valid.txt": "a\n"},
    "paths": {"ImageSets/Main/val.txt": "JPEGImages\\a.png\r\n"},
    "pairs beside the folders": {"val_list.txt": "./JPEGImages/a.png ./Annotations/a.xml\n"},
    "twice, then held out": {"ImageSets/Main/train.txt": "a\n", "ImageSets/Main/val.txt": "a\n"},
}  # fmt: skip


@pytest.mark.parametrize("lists", LISTS.values(), ids=LISTS.keys())
def test_the_split_is_found_in_lists_of_every_form(tmp_path: Path, lists: dict[str, str]) -> None:
    root = written(tmp_path, {"Annotations/a.xml": xml(), **lists}, ("JPEGImages/a.png",))
    assert read(root)[0].records[0].split == "val"


def test_trainval_alone_is_reported_as_no_split(tmp_path: Path) -> None:
    files = {"Annotations/a.xml": xml(), "ImageSets/Main/trainval.txt": "a\n"}
    dataset, counts = read(written(tmp_path, files, ("JPEGImages/a.png",)))
    assert dataset.records[0].split == ""
    assert "trainval.txt is no split" in counts.notes[0]


SEVERAL = {
    "a kit of two years": ("VOC2007/Annotations/1.xml", "VOC2007/JPEGImages/1.png",
                           "VOC2012/Annotations/1.xml", "VOC2012/JPEGImages/1.png"),
    "Roboflow": ("train/1.xml", "train/1.png", "valid/1.xml", "valid/1.png"),
    "folders below": ("Annotations/x/1.xml", "JPEGImages/x/1.png",
                      "Annotations/y/1.xml", "JPEGImages/y/1.png"),
    "cameras": ("x/1.xml", "x/1.png", "y/1.xml", "y/1.png"),
    "small letters": ("x/annotations/1.xml", "x/images/1.png",
                      "y/annotations/1.xml", "y/images/1.png"),
}  # fmt: skip


@pytest.mark.parametrize("paths", SEVERAL.values(), ids=SEVERAL.keys())
def test_photos_of_one_name_in_two_folders_keep_their_labels(
    tmp_path: Path, paths: tuple[str, str, str, str]
) -> None:
    boxes = {paths[0]: BOX, paths[2]: BOX.replace("12", "20")}
    files = {name: xml("1.png", box=f"<bndbox>{box}</bndbox>") for name, box in boxes.items()}
    dataset, _ = read(written(tmp_path, files, (paths[1], paths[3])))
    found = {str(r.path.relative_to(tmp_path)): dataset.on(r).boxes[0, 2] for r in dataset.records}
    assert found == {paths[1]: 12, paths[3]: 20}
    assert len({record.file_name for record in dataset.records}) == 2


def test_roboflows_folders_are_the_splits(tmp_path: Path) -> None:
    names = ("train", "valid", "test")
    files = {f"{name}/1.xml": xml("1.png") for name in names}
    dataset, _ = read(written(tmp_path, files, tuple(f"{name}/1.png" for name in names)))
    assert {r.file_name: r.split for r in dataset.records} == {
        "test/1.png": "test", "train/1.png": "train", "valid/1.png": "val"
    }  # fmt: skip


def test_two_files_of_one_photo_are_refused(tmp_path: Path) -> None:
    root = written(tmp_path, {"a.xml": xml(), "b.xml": xml()}, ("a.png",))
    with pytest.raises(DataError, match=r"b\.xml: names the photo a\.png, which is that of a\.xml"):
        read(root)


def test_ignored_files_are_reported(tmp_path: Path) -> None:
    parts = f"<part><name>head</name><bndbox>{BOX}</bndbox></part>"
    box = f"<pose>Left</pose><bndbox>{BOX}</bndbox>{parts}"
    files = {"a.xml": xml(box=box), "b.aux.xml": "<PAMDataset/>"}
    _, counts = read(written(tmp_path, files, ("a.png", "c.png")))
    assert [(row.kind, row.count) for row in counts.left_out] == [("part", 1)]
    for name in ("a.xml object 1", "b.aux.xml", "c.png"):
        assert any(name in note for note in counts.notes)


def test_one_xml_file_is_a_set(tmp_path: Path) -> None:
    root = written(tmp_path, {"a.xml": xml(), "b.xml": xml("b.png")}, ("a.png", "b.png"))
    dataset, counts = read(root / "a.xml")
    assert [record.file_name for record in dataset.records] == ["a.png"]
    assert counts.notes == ()


def test_the_photo_of_another_camera_is_not_taken(tmp_path: Path) -> None:
    files = {"Annotations/cam1/1.xml": xml("1.png")}
    root = written(tmp_path, files, ("JPEGImages/cam2/1.png",))
    with pytest.raises(DataError, match=r"cam1/1\.xml: its photo .*cam1/1\.png: no such image"):
        read(root)


@pytest.mark.parametrize(("others", "photo"), [((), "b.png"), (("b",), "a.png")])
def test_a_named_photo_is_read_unless_it_is_that_of_another_file(
    tmp_path: Path, others: tuple[str, ...], photo: str
) -> None:
    files = {f"{name}.xml": xml("b.png") for name in ("a", *others)}
    dataset, _ = read(written(tmp_path, files, ("a.png", "b.png")))
    assert dataset.records[0].file_name == photo


def test_files_that_all_name_one_photo_have_those_of_their_own_names(tmp_path: Path) -> None:
    files = {f"{name}.xml": xml("image.png") for name in "ab"}
    dataset, _ = read(written(tmp_path, files, ("a.png", "b.png", "image.png")))
    assert [record.file_name for record in dataset.records] == ["a.png", "b.png"]
