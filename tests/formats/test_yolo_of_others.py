"""YOLO sets as Roboflow, Label Studio, CVAT and ultralytics write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from yolo_of_others import ROW, read, written

from pipeline.errors import DataError
from pipeline.formats.registry import FORMATS
from pipeline.formats.source import SourceLog
from pipeline.formats.yolo_reader import read_yolo

SETS: dict[str, dict[str, str]] = {
    "Roboflow": {"data.yaml": "train: ../train/images\nnames: [stain, crack]\n",
                 "train/images/a.png": "", "train/labels/a.txt": ROW},
    "Label Studio": {"classes.txt": "stain\ncrack\n", "images/a.png": "", "labels/a.txt": ROW},
    "labelImg": {"classes.txt": "stain\ncrack\n\n", "a.png": "", "a.txt": ROW},
    "CVAT": {"obj.names": "stain\ncrack\n", "obj.data": "classes = 2\ntrain = data/train.txt\n",
             "train.txt": "data/obj_train_data/a.png\n", "obj_train_data/a.png": "",
             "obj_train_data/a.txt": ROW},
    "another yaml": {"set.yaml": "train: images\nnames: {'0': stain, '1': crack}\n",
                     "images/a.png": "", "labels/a.txt": ROW},
    "path of another machine": {"data.yaml": "path: ../x/y\ntrain: images\nnames: [stain, crack]\n",
                                "images/a.png": "", "labels/a.txt": ROW},
    "a key of people": {"data.yaml": "Valid: images\nNAMES: '[\"stain\", \"crack\"]'\n",
                        "images/a.png": "", "labels/a.txt": ROW},
    "numbers with a gap": {"data.yaml": "train: images\nnames: {0: stain, 5: crack}\n",
                           "images/a.png": "", "labels/a.txt": ROW.replace("1", "5", 1)},
    "numbers by name": {"data.yaml": "train: images\nnames: {stain: 0, crack: 1}\n",
                        "images/a.png": "", "labels/a.txt": ROW},
    "Windows": {"data.yaml": "path: D:\\sets\\x\ntrain: D:\\sets\\x\\images\\train\n"
                             "names: [stain, crack]\n",
                "images/train/a.png": "", "labels/train/a.txt": ROW},
    "a list of another machine": {"data.yaml": "train: train.txt\nnames: [stain, crack]\n",
                                  "train.txt": "C:\\x\\images\\cam\\a.png\r\n",
                                  "images/cam/a.png": "", "labels/cam/a.txt": ROW},
    "CVAT's for ultralytics": {"data.yaml": "path: .\ntrain: train.txt\n"
                                            "names: {0: stain, 1: crack}\n",
                               "train.txt": "data/images/train/a.png\n",
                               "images/train/a.png": "", "labels/train/a.txt": ROW},
    "labelImg with folders": {"labels/classes.txt": "stain\ncrack\n", "images/a.png": "",
                              "labels/a.txt": ROW},
    "labelImg with folders of folders": {"labels/line 1/classes.txt": "stain\ncrack\n",
                                         "images/line 1/a.png": "", "labels/line 1/a.txt": ROW},
    "two equal lists of classes": {"train/labels/classes.txt": "stain\ncrack\n",
                                   "test/labels/classes.txt": "stain\ncrack\n",
                                   "train/images/a.png": "", "train/labels/a.txt": ROW},
    "Roboflow's darknet": {"train/_darknet.labels": "stain\ncrack\n", "train/a.png": "",
                           "train/a.txt": ROW},
    "labels beside photos in a folder called images": {
        "classes.txt": "stain\ncrack\n", "images/a.png": "", "images/a.txt": ROW},
    "a suffix in capitals": {"classes.txt": "stain\ncrack\n", "images/a.png": "",
                             "labels/a.TXT": ROW},
    "folders in capitals": {"classes.txt": "stain\ncrack\n", "Images/cam/a.png": "",
                            "Labels/cam/a.txt": ROW},
    "Roboflow without valid": {
        "data.yaml": "train: ../train/images\nval: ../valid/images\nnames: [stain, crack]\n",
        "train/images/a.png": "", "train/labels/a.txt": ROW},
    "two categories of one name": {
        "data.yaml": "train: images\nnames: [stain, crack, crack]\n",
        "images/a.png": "", "labels/a.txt": ROW.replace("1", "2", 1)},
    "a path below the sets of ultralytics": {
        "data.yaml": "path: ../datasets/coco8\ntrain: images\nnames: [stain, crack]\n",
        "coco8/images/a.png": "", "coco8/labels/a.txt": ROW},
}  # fmt: skip


@pytest.mark.parametrize("files", SETS.values(), ids=SETS.keys())
def test_a_set_of_another_tool_is_read(tmp_path: Path, files: dict[str, str]) -> None:
    dataset, counts = read(written(tmp_path, **files))
    (record,) = dataset.records
    assert dataset.categories == ("stain", "crack")
    assert dataset.on(record).labels.tolist() == [1]
    np.testing.assert_allclose(dataset.on(record).boxes, [[12, 6, 18, 14]], atol=1e-4)
    assert (counts.objects, counts.read, counts.left_out) == (1, 1, ())


def test_a_split_that_is_named_and_not_there_is_said(tmp_path: Path) -> None:
    _, counts = read(written(tmp_path, **SETS["Roboflow without valid"]))
    assert counts.notes == (
        "1 x places that data.yaml names do not exist: no image is read there: ../valid/images",
    )
    written(tmp_path, **{"data.yaml": "train: gone\nval: train/images\nnames: [crack]\n"})
    with pytest.raises(DataError, match="names 'gone', which does not exist"):
        read(tmp_path)


def test_folders_called_as_splits_are_splits_in_a_set_without_data_yaml(tmp_path: Path) -> None:
    files: dict[str, str] = {}
    for split in ("train", "valid"):
        files |= {f"{split}/{split}.png": "", f"{split}/{split}.txt": ROW}
        files |= {f"{split}/_darknet.labels": "stain\ncrack\n"}
    root = written(tmp_path, **files)
    dataset, counts = read(root)
    assert [(r.file_name, r.split) for r in dataset.records] == [
        ("train.png", "train"), ("valid.png", "val")
    ]  # fmt: skip
    assert (counts.objects, counts.read) == (2, 2)
    written(root, **{"more/a.png": ""})  # a photo that is in no split: no folder is one
    assert [record.split for record in read(root)[0].records] == ["", "", ""]


def test_lists_of_classes_that_differ_are_refused_with_both(tmp_path: Path) -> None:
    files = {"train/_darknet.labels": "stain\ncrack\n", "valid/_darknet.labels": "crack\nstain\n"}
    with pytest.raises(DataError, match=r"valid/_darknet\.labels: names other .*/train/_darknet"):
        read(written(tmp_path, **files, **{"train/a.png": "", "train/a.txt": ROW}))


def test_categories_of_one_name_are_said_to_be_one(tmp_path: Path) -> None:
    _, counts = read(written(tmp_path, **SETS["two categories of one name"]))
    assert counts.notes == ("1 x data.yaml: categories of one name are one: crack",)


def test_a_set_without_names_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.yaml: no such file, and no classes\.txt"):
        read(written(tmp_path, **{"images/a.png": "", "labels/a.txt": ROW}))


def test_a_set_in_a_folder_deeper_is_named(tmp_path: Path) -> None:
    files = {f"My.v1/{name}": text for name, text in SETS["Roboflow"].items()}
    with pytest.raises(DataError, match=r"one in the folder My\.v1; give .*/My\.v1"):
        read(written(tmp_path, **files))


def test_a_blank_line_among_the_names_is_refused(tmp_path: Path) -> None:
    files = {"classes.txt": "stain\n\ncrack\n", "images/a.png": "", "labels/a.txt": ROW}
    with pytest.raises(DataError, match=r"classes\.txt: line 2 is blank"):
        read(written(tmp_path, **files))


def test_the_rows_of_a_label_file_without_image_are_counted(tmp_path: Path) -> None:
    root = written(tmp_path, **SETS["Label Studio"], **{"labels/gone.txt": ROW + ROW})
    assert [(row.kind, row.count) for row in read(root)[1].left_out] == [("label file", 2)]


def test_two_photos_with_one_name_stay_two_here_and_when_they_are_written(tmp_path: Path) -> None:
    files = {"data.yaml": "train: train/images\nval: valid/images\nnames: [a, b]\n"}
    for split, row in (("train", "0 0.5 0.5 0.2 0.4\n"), ("valid", ROW)):
        files |= {f"{split}/images/1.png": "", f"{split}/labels/1.txt": row}
    dataset, _ = read(written(tmp_path / "set", **files))
    assert [record.file_name for record in dataset.records] == ["train/1.png", "valid/1.png"]
    FORMATS["yolo"].write(tmp_path / "out", dataset, False, 0)
    back, _ = read(tmp_path / "out")
    assert {r.split: back.on(r).labels.tolist() for r in back.records} == {"train": [0], "val": [1]}


def test_a_wrong_nc_is_said(tmp_path: Path) -> None:
    files = SETS["Roboflow"] | {"data.yaml": "train: train/images\nnc: 3\nnames: [a, b]\n"}
    assert "nc is 3, but there are 2 names" in read(written(tmp_path, **files))[1].notes[0]


@pytest.mark.parametrize("key", ["val", "valid", "validation", "VAL", "Valid"])
def test_a_split_is_read_under_every_name(tmp_path: Path, key: str) -> None:
    files = {"data.yaml": f"train: train/images\n{key}: valid/images\nnames: [a, b]\n"}
    for split in ("train", "valid"):
        files |= {f"{split}/images/{split}.png": "", f"{split}/labels/{split}.txt": ROW}
    dataset, _ = read(written(tmp_path, **files))
    assert [record.split for record in dataset.records] == ["train", "val"]


def test_the_folder_of_another_split_is_not_taken(tmp_path: Path) -> None:
    """`valid/images` is gone, and `images` is no end of it."""
    files = {"data.yaml": "train: ../valid/images\nval: images\nnames: [a, b]\n"}
    root = written(tmp_path, **files, **{"images/a.png": "", "labels/a.txt": ROW})
    with pytest.raises(DataError, match=r"names '\.\./valid/images', which does not exist"):
        read(root)


def test_rows_of_a_list_that_lead_to_one_image_are_refused(tmp_path: Path) -> None:
    files = {"data.yaml": "train: train.txt\nnames: [a, b]\n", "images/a.png": "",
             "train.txt": "/x/cam1/a.png\n/x/cam2/a.png\n"}  # fmt: skip
    with pytest.raises(DataError, match="rows 1 and 2 both lead to"):
        read(written(tmp_path, **files))


def test_two_images_of_one_label_file_are_refused_if_it_has_rows(tmp_path: Path) -> None:
    files = {"classes.txt": "a\nb\n", "images/a.png": "", "images/a.jpg": "x"}
    root = written(tmp_path, **files, **{"labels/a.txt": ""})
    (root / "images" / "a.jpg").write_bytes((root / "images" / "a.png").read_bytes())
    assert len(read(root)[0].records) == 2
    (root / "labels" / "a.txt").write_text(ROW)
    with pytest.raises(DataError, match=r"a\.png: has the label file a\.txt, .* a\.jpg too"):
        read(root)


def test_images_of_no_split_keep_the_splits_of_the_others(tmp_path: Path) -> None:
    lists = {"train": "a", "val": "b"}
    files = {f"{split}.txt": f"./images/{name}.png\n" for split, name in lists.items()}
    files |= {"data.yaml": "train: train.txt\nval: val.txt\nunsorted: u.txt\nnames: [a, b]\n",
              "u.txt": "./images/c.png\n"}  # fmt: skip
    files |= {f"{kind}/{name}.{end}": text for name in "abc"
              for kind, end, text in (("images", "png", ""), ("labels", "txt", ROW))}  # fmt: skip
    dataset, _ = read(written(tmp_path / "set", **files))
    FORMATS["yolo"].write(tmp_path / "out", dataset, False, 0)
    back, _ = read(tmp_path / "out")
    assert {r.file_name: r.split for r in back.records} == {
        "a.png": "train", "b.png": "val", "c.png": ""
    }  # fmt: skip
    assert (tmp_path / "out" / "unsorted.txt").read_text() == "./images/c.png\n"


EXPORTS: dict[str, dict[str, str]] = {
    "CVAT": {"obj.names": "stain\ncrack\n", "obj.data": "train = data/train.txt\n",
             "train.txt": "data/obj_train_data/x/a.png\n", "obj_train_data/x/a.txt": ROW},
    "Label Studio": {"classes.txt": "stain\ncrack\n", "labels/x/a.txt": ROW},
    "ultralytics": {"data.yaml": "train: images\nnames: [stain, crack]\n", "labels/x/a.txt": ROW},
}  # fmt: skip


@pytest.mark.parametrize("files", EXPORTS.values(), ids=EXPORTS.keys())
def test_labels_without_their_images_are_read_with_a_folder_of_images(
    tmp_path: Path, files: dict[str, str]
) -> None:
    root = written(tmp_path / "set", **files)
    images = written(tmp_path / "images", **{"x/a.png": ""})
    log = SourceLog()
    dataset = read_yolo(root, images, False, log)
    assert dataset.on(dataset.records[0]).labels.tolist() == [1]
    assert log.counts(dataset).objects == 1


def test_images_without_a_label_file_are_said(tmp_path: Path) -> None:
    _, counts = read(written(tmp_path, **{"classes.txt": "a\n", "images/a.png": ""}))
    assert counts.notes == ("1 x images without a label file have no objects: a.png",)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.json", '{"images": []}', "JSON"),
        ("classes.txt", "\n[1, 2]", "JSON"),
        ("a.xml", "<annotation/>", "XML"),
        ("a.csv", "image,label\n", "a CSV file"),
        ("a.txt", ROW, "the labels of one image"),
        ("train.txt", "images/a.png\n", "a list of images"),
    ],
)
def test_a_file_of_another_format_is_no_list_of_classes(
    tmp_path: Path, name: str, text: str, kind: str
) -> None:
    root = written(tmp_path, **{name: text, "a.png": ""})
    with pytest.raises(DataError, match=f"is no list of classes: it looks like {kind}; give"):
        read_yolo(root / name)


@pytest.mark.parametrize(
    ("names", "categories"),
    [
        ("[yes, no]", ("yes", "no")),  # YAML takes them as true and false
        ("{0: On, 1: 1.50}", ("On", "1.50")),
        ("[007, 2024-01-01, 1_0]", ("007", "2024-01-01", "1_0")),
        ("'[off, \"y\"]'", ("off", "y")),
        ("{no: 1, yes: 0}", ("yes", "no")),
    ],
)
def test_names_in_yaml_are_the_words_as_written(
    tmp_path: Path, names: str, categories: tuple[str, ...]
) -> None:
    text = f"nc: {len(categories)}\ntrain: images\nval:\nnames: {names}\n"
    root = written(tmp_path, **{"data.yaml": text, "images/a.png": ""})
    assert read(root)[0].categories == categories
