"""Zips as labelling tools give them, and images whose labels would be one file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.formats.registry import FORMATS
from pipeline.geometry.boxes import as_boxes
from pipeline.io.images import write_png
from pipeline.stages.export_labels import export_labels, import_labels
from pipeline.types import Dataset, Detections, ImageRecord


def dataset(root: Path, *names: str) -> Dataset:
    """An image of 30 x 20 pixels with a box for each name."""
    records, objects = [], {}
    for number, name in enumerate(names, start=1):
        write_png(root / name, np.full((20, 30, 3), number, np.uint8))
        records.append(ImageRecord(number, root / name, name, 20, 30))
        boxes = as_boxes([[2, 2, 12, 6 + number]])
        objects[number] = Detections(boxes, np.zeros(1, np.int64))
    return Dataset(("crack",), tuple(records), objects)


@pytest.mark.parametrize("name", ["yolo", "voc", "labelme", "coco", "label-studio"])
@pytest.mark.parametrize("is_inside", [False, True])
def test_the_zip_of_a_folder_is_read(tmp_path: Path, name: str, is_inside: bool) -> None:
    FORMATS[name].write(tmp_path / "in" / "set", dataset(tmp_path / "p", "a.png"), True, 0)
    packed = tmp_path / "in" if is_inside else tmp_path / "in" / "set"
    path = Path(shutil.make_archive(str(tmp_path / "set"), "zip", packed))
    result = import_labels(path, name, tmp_path / "out")
    assert (result.images, result.objects) == (1, 1)
    assert result.source.objects == 1


def test_a_fault_in_a_zip_names_the_zip(tmp_path: Path) -> None:
    root = tmp_path / "set"
    FORMATS["yolo"].write(root, dataset(tmp_path / "p", "a.png"), True, 0)
    (root / "labels" / "a.txt").write_text("0 x\n")
    path = Path(shutil.make_archive(str(tmp_path / "set"), "zip", root))
    with pytest.raises(DataError, match=r"^set\.zip/labels/a\.txt: row 1 is not all numbers"):
        import_labels(path, "yolo", tmp_path / "out")


def test_a_zip_of_label_studios_json_finds_the_photos_beside_it(tmp_path: Path) -> None:
    """Label Studio's own zip: one JSON file of any name, and no photo."""
    FORMATS["label-studio"].write(tmp_path / "set", dataset(tmp_path / "images", "a.png"), True, 0)
    (tmp_path / "bare").mkdir()
    (tmp_path / "set" / "tasks.json").rename(tmp_path / "bare" / "project-1-at-2026-11-27.json")
    path = Path(shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path / "bare"))
    result = import_labels(path, "label-studio", tmp_path / "out")
    assert (result.images, result.objects) == (1, 1)


@pytest.mark.parametrize("name", ["yolo", "voc", "labelme"])
def test_images_that_differ_in_the_suffix_get_names_of_their_own(tmp_path: Path, name: str) -> None:
    """a.png and a.jpg: in each of these formats, the labels of both would be a.txt, .xml, .json."""
    names = ("a.png", "a.jpg", "a_jpg.png")
    FORMATS["coco"].write(tmp_path / "set", dataset(tmp_path / "p", *names), True, 0)
    result = export_labels(tmp_path / "set", name, tmp_path / "out")
    assert result.fidelity[name].lost == 0
    back = FORMATS[name].read(tmp_path / "out", None)
    bottoms = {record.file_name: back.on(record).boxes[0, 3] for record in back.records}
    assert sorted(round(float(bottom)) for bottom in bottoms.values()) == [7, 8, 9]
    assert sorted(Path(file).name for file in bottoms) == ["a.png", "a_jpg.png", "a_jpg_jpg.jpg"]
