"""COCO files in the folders of Roboflow, FiftyOne and CVAT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.formats.coco_folders import images_meant
from pipeline.formats.registry import FORMATS
from pipeline.formats.source import SourceLog
from pipeline.io.images import write_png
from pipeline.stages.export_labels import import_labels


def written(path: Path, photo: str, name: str = "a.png", category: str = "crack") -> Path:
    """A COCO file of one image with one box, and its photo below the folder of the file."""
    write_png(path.parent / photo, np.zeros((20, 30, 3), np.uint8))
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 4, 5]}
    image = {"id": 1, "file_name": name, "width": 30, "height": 20}
    content = {"images": [image], "annotations": [row], "categories": [{"id": 1, "name": category}]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("file", "photo", "name"),
    [
        ("labels.json", "data/a.png", "a.png"),  # FiftyOne
        ("annotations/instances_default.json", "../images/default/a.png", "a.png"),  # CVAT
        ("a.json", "a.png", "a.png"),
    ],
)
def test_photos_are_found_where_other_tools_put_them(
    tmp_path: Path, file: str, photo: str, name: str
) -> None:
    (tmp_path / "set" / "annotations").mkdir(parents=True)
    path = written(tmp_path / "set" / file, photo, name)
    found = import_labels(path, "coco", tmp_path / "out")
    assert (found.images, found.objects) == (1, 1)
    whole = import_labels(tmp_path / "set", "coco", tmp_path / "whole")
    assert (whole.images, whole.objects) == (1, 1)


def test_photos_beside_the_file_come_before_a_folder_of_others(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", "a.png")
    (tmp_path / "images").mkdir()
    assert images_meant(path) is None
    (tmp_path / "a.png").unlink()
    assert images_meant(path) == tmp_path / "images"


def test_roboflows_folders_are_one_set_with_their_splits(tmp_path: Path) -> None:
    for folder, category in (("train", "crack"), ("valid", "stain"), ("test", "crack")):
        written(tmp_path / folder / "_annotations.coco.json", "a.png", category=category)
    log = SourceLog()
    dataset = FORMATS["coco"].read(tmp_path, None, log=log)
    assert [(record.file_name, record.split) for record in dataset.records] == [
        ("test/a.png", "test"),
        ("train/a.png", "train"),
        ("valid/a.png", "val"),
    ]
    labels = [int(dataset.on(record).labels[0]) for record in dataset.records]
    assert [dataset.categories[label] for label in labels] == ["crack", "crack", "stain"]
    assert all(record.path.is_file() for record in dataset.records)
    counts = log.counts(dataset)
    assert (counts.images, counts.objects, counts.read) == (3, 3, 3)
    assert counts.notes == ("the COCO files of the folders test, train, valid are read as one set",)
