"""Pascal VOC as labelImg, Roboflow and VOC itself write it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.formats.voc_reader import read_voc
from pipeline.io.images import write_png
from pipeline.types import Dataset

BOX = "<xmin>3</xmin><ymin>3</ymin><xmax>12</xmax><ymax>8</ymax>"  # pixels 2 to 11, 2 to 7
SIZE = "<size><width>30</width><height>20</height></size>"


def xml(name: str = "a.png", size: str = SIZE, box: str = f"<bndbox>{BOX}</bndbox>") -> str:
    return (
        f"<annotation><filename>{name}</filename>{size}"
        f"<object><name>crack</name>{box}</object></annotation>"
    )


def written(root: Path, files: dict[str, str], photos: tuple[str, ...]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in photos:
        write_png(root / name, np.zeros((20, 30, 3), np.uint8))
    return root


def read(root: Path) -> tuple[Dataset, SourceCounts]:
    log = SourceLog()
    dataset = read_voc(root, None, log)
    return dataset, log.counts(dataset)


NO_SIZES = [
    "", "<size/>", "<size><width></width><height/></size>",
    "<size><width>0</width><height>0</height></size>",
    "<size><width>30.0</width><height>20.0</height></size>",
]  # fmt: skip


@pytest.mark.parametrize("size", NO_SIZES)
@pytest.mark.parametrize("flat", [False, True])
def test_a_size_that_the_file_lacks_is_that_of_the_photo(
    tmp_path: Path, size: str, flat: bool
) -> None:
    folders = ("", "") if flat else ("Annotations/", "JPEGImages/")
    root = written(tmp_path, {f"{folders[0]}a.xml": xml(size=size)}, (f"{folders[1]}a.png",))
    dataset, counts = read(root)
    (record,) = dataset.records
    assert (record.file_name, record.size) == ("a.png", (20, 30))
    assert dataset.on(record).boxes.tolist() == [[2, 2, 12, 8]]
    assert (counts.objects, counts.read) == (1, 1)


@pytest.mark.parametrize("name", ["a", "renamed_later.png", "C:\\photos\\a.png", "sub/a.png"])
def test_the_photo_of_the_files_own_name_is_found(tmp_path: Path, name: str) -> None:
    root = written(tmp_path, {"Annotations/a.xml": xml(name)}, ("JPEGImages/a.png",))
    assert read(root)[0].records[0].file_name == "a.png"


def test_swapped_corners_are_put_in_order_and_said(tmp_path: Path) -> None:
    box = "<bndbox><xmin>12</xmin><ymin>8</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"
    dataset, counts = read(written(tmp_path, {"a.xml": xml(box=box)}, ("a.png",)))
    assert dataset.on(dataset.records[0]).boxes.tolist() == [[2, 2, 12, 8]]
    assert "swapped corners" in counts.notes[0]


def test_an_object_without_a_box_is_left_out_and_named(tmp_path: Path) -> None:
    _, counts = read(written(tmp_path, {"a.xml": xml(box="<polygon/>")}, ("a.png",)))
    assert [(one.kind, one.count) for one in counts.left_out] == [("object", 1)]
    assert counts.left_out[0].examples == ("a.xml object 1",)


def test_trainval_and_the_lists_of_a_category_are_no_splits(tmp_path: Path) -> None:
    lists = {"train": "a\n", "val": "b\n", "trainval": "a\nb\n", "crack_train": "a  1\n",
             "crack_trainval": "a  1\nb -1\n"}  # fmt: skip
    files = {f"ImageSets/Main/{name}.txt": text for name, text in lists.items()}
    files |= {f"Annotations/{name}.xml": xml(f"{name}.png") for name in "ab"}
    root = written(tmp_path, files, ("JPEGImages/a.png", "JPEGImages/b.png"))
    assert [record.split for record in read(root)[0].records] == ["train", "val"]
