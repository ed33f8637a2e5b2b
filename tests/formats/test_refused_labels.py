"""Labels that cannot be written, and files that cannot be read, are refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from round_trips import dataset_of

from pipeline.errors import DataError
from pipeline.formats.registry import FORMATS
from pipeline.io.images import write_png
from pipeline.types import Dataset, ImageRecord


def test_two_images_whose_label_files_would_be_one_are_refused_by_mvtec(tmp_path: Path) -> None:
    plain = dataset_of(tmp_path, np.zeros((4, 4), bool))
    first = plain.records[0]
    second = ImageRecord(9, first.path, "val/image 1.jpg", 4, 4)
    with pytest.raises(DataError, match="has the same name as"):
        FORMATS["mvtec"].write(tmp_path / "out", Dataset(("a",), (first, second)), False, 0.0)


@pytest.mark.parametrize("name", ["labelme", "labelme-polygon", "mvtec", "png", "voc", "yolo"])
def test_two_images_that_would_share_one_label_file_are_refused(tmp_path: Path, name: str) -> None:
    records = []
    for number, suffix in enumerate((".png", ".bmp")):
        path = tmp_path / f"a{suffix}"
        write_png(path, np.zeros((4, 6), np.uint8))
        records.append(ImageRecord(number + 1, path, f"test/{path.name}", 4, 6))
    with pytest.raises(DataError, match=r"a\.bmp: has the same name as .*a\.png; rename one"):
        FORMATS[name].write(tmp_path / "out", Dataset(("x",), tuple(records)), False, 0.0)


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("voc", "Annotations/a.xml", "<annotation>", "is not Pascal VOC's XML"),
        ("voc", "Annotations/a.xml", "<annotation/>", "lacks filename"),
        ("cvat", "annotations.xml", "no xml", "is not readable XML"),
        ("cvat", "annotations.xml", '<annotations><image name="a.png"/></annotations>', "a.png"),
        ("labelme", "a.json", '{"shapes": [{"label": "x"}]}', "is not a LabelMe file"),
        ("label-studio", "tasks.json", "{}", "is not Label Studio's JSON"),
        ("label-studio", "tasks.json", '[{"id": 7, "data": {"image": "a.png"}}]', "task 7"),
        ("coco-results", "results.json", "{}", "no such file"),
        ("png", "masks/objects.json", '{"images": 3}', "is not a listing"),
        ("coco", "annotations/instances.json",
         '{"images": [{"id": 1, "file_name": "../../a.png", "height": 1, "width": 1}], '
         '"annotations": [], "categories": []}', "leaves its folder"),
        ("cvat", "annotations.xml",
         '<annotations><image name="/etc/a.png" height="1" width="1"/></annotations>',
         "no such image"),
        ("yolo", "data.yaml", "train: images", "names no categories"),
        ("yolo", "data.yaml", "names: [a]\ntrain: images", "does not exist"),
    ],
)  # fmt: skip
def test_a_broken_file_is_one_line_with_its_path(
    tmp_path: Path, name: str, file: str, content: str, message: str
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        FORMATS[name].read(tmp_path, None)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x 0.5 0.5 0.1 0.1", "row 1 is not all numbers"),
        ("3 0.5 0.5 0.1 0.1", "row 1 names label 3, but there are 3"),
        ("0 0.5 0.5 0.1", "row 1 has 3 numbers"),
    ],
)
def test_a_bad_yolo_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    dataset = dataset_of(tmp_path, np.ones((4, 4), bool))
    FORMATS["yolo"].write(tmp_path / "out", dataset, False, 0.0)
    label_file = tmp_path / "out" / "labels" / "train" / "image 1.txt"
    label_file.write_text(f"{row}\n")
    with pytest.raises(DataError, match=f"image 1.txt: {message}"):
        FORMATS["yolo"].read(tmp_path / "out", None)
