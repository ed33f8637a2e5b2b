"""YOLO sets as Roboflow, Label Studio, CVAT and ultralytics write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.formats.registry import FORMATS
from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.formats.yolo_reader import read_yolo
from pipeline.io.images import write_png
from pipeline.types import Dataset

ROW = "1 0.5 0.5 0.2 0.4\n"  # of 30 x 20 pixels: 12 to 18, 6 to 14


def written(root: Path, **files: str) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            write_png(root / name, np.zeros((20, 30, 3), np.uint8))
        else:
            (root / name).write_text(text)
    return root


def read(root: Path) -> tuple[Dataset, SourceCounts]:
    log = SourceLog()
    dataset = read_yolo(root, None, False, log)
    return dataset, log.counts(dataset)


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
}  # fmt: skip


@pytest.mark.parametrize("files", SETS.values(), ids=SETS.keys())
def test_a_set_of_another_tool_is_read(tmp_path: Path, files: dict[str, str]) -> None:
    dataset, counts = read(written(tmp_path, **files))
    (record,) = dataset.records
    assert dataset.categories == ("stain", "crack")
    assert dataset.on(record).labels.tolist() == [1]
    np.testing.assert_allclose(dataset.on(record).boxes, [[12, 6, 18, 14]], atol=1e-4)
    assert (counts.objects, counts.read, counts.left_out) == (1, 1, ())


def one(tmp_path: Path, rows: str) -> tuple[Dataset, SourceCounts]:
    return read(
        written(tmp_path, **{"classes.txt": "a\nb\n", "images/a.png": "", "labels/a.txt": rows})
    )


def test_a_confidence_behind_each_row_is_its_score(tmp_path: Path) -> None:
    dataset, _ = one(tmp_path, "1 0.5 0.5 0.2 0.4 0.75\n")
    scores = dataset.on(dataset.records[0]).scores
    assert scores is not None
    assert scores.tolist() == [0.75]


def test_a_track_behind_a_row_is_left_out_and_reported(tmp_path: Path) -> None:
    dataset, counts = one(tmp_path, "1 0.5 0.5 0.2 0.4 17\n")
    assert dataset.on(dataset.records[0]).scores is None
    assert "track" in counts.notes[0]


def test_a_box_among_polygons_is_counted_as_a_polygon(tmp_path: Path) -> None:
    _, counts = one(tmp_path, ROW + "0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    assert [(row.kind, row.count) for row in counts.converted] == [("box among polygons", 1)]
    assert (counts.objects, counts.read) == (2, 1)


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
