from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from validated import rows
from yolo_of_others import written

from pipeline.errors import DataError
from pipeline.stages.validate import validate

Change = Callable[[dict[str, Any]], None]


def test_what_convert_masks_writes_has_no_fault(good: Path) -> None:
    found = validate([good / "annotations" / "instances.json", good, good / "segment"])
    assert (found.faults, found.left, found.exit_code) == (0, (), 0)


def _rename(raw: dict[str, Any], *names: str) -> None:
    for entry, name in zip(raw["images"], names, strict=False):
        entry["file_name"] = name


def _polygon(raw: dict[str, Any], *rings: list[float]) -> None:
    rows(raw)[0]["segmentation"] = list(rings)


COCO: list[tuple[str, str, Change, bool]] = [
    ("duplicate id", "annotation 2", lambda raw: rows(raw)[0].update(id=2), True),
    ("id 0", "annotation 0", lambda raw: rows(raw)[0].update(id=0), True),
    ("id 0", "annotation None", lambda raw: rows(raw)[0].pop("id"), True),
    ("id 0", "category crack", lambda raw: raw["categories"][0].update(id=0), False),
    ("duplicate id", "image 2", lambda raw: raw["images"][0].update(id=2), False),
    ("duplicate id", "category 2", lambda raw: raw["categories"][0].update(id=2), False),
    ("categories disagree", "category stain",
     lambda raw: raw["categories"][0].update(name="stain"), False),
    ("dangling reference", "annotation 1", lambda raw: rows(raw)[0].update(image_id=99), True),
    ("dangling reference", "annotation 1", lambda raw: rows(raw)[0].update(category_id=9), True),
    ("box outside the image", "annotation 1",
     lambda raw: rows(raw)[0].update(bbox=[60, 10, 9, 4]), True),
    ("box outside the image", "annotation 1",
     lambda raw: rows(raw)[0].update(bbox=[70, 10, 9, 4]), True),
    ("zero area", "annotation 1", lambda raw: rows(raw)[0].update(bbox=[20, 10, 0, 4]), True),
    ("no box", "annotation 1", lambda raw: rows(raw)[0].pop("bbox"), True),
    ("area differs", "annotation 1", lambda raw: rows(raw)[0].update(area=240), True),
    ("iscrowd", "annotation 1", lambda raw: rows(raw)[0].update(
        iscrowd=1, segmentation=[[20, 10, 26, 10, 26, 14, 20, 14]]), True),
    ("polygon under 3 points", "annotation 1", lambda raw: _polygon(raw, [1, 1, 5, 5]), True),
    ("line", "annotation 1",
     lambda raw: rows(raw)[0].update(segmentation=[[1, 1, 5, 5]], area=0), False),
    ("polygon outside the image", "annotation 1",
     lambda raw: _polygon(raw, [20, 10, 26, 10, 26, -14, 20, 14]), True),
    ("unreadable mask", "annotation 1",
     lambda raw: rows(raw)[0].update(segmentation={"size": [48, 64], "counts": "12"}), False),
    ("unreadable mask", "annotation 1",
     lambda raw: rows(raw)[0].update(segmentation={"size": [5, 5], "counts": "i0"}), False),
    ("duplicate image", "image", lambda raw: raw["images"].append(
        {**raw["images"][0], "id": 77}), False),
    ("image without size or name", "image 1", lambda raw: raw["images"][0].pop("height"), True),
    ("flat outline", "annotation 1",
     lambda raw: rows(raw)[0].update(segmentation=[20, 10, 26, 10, 26, 14, 20, 14]), True),
    ("id of another type", "annotation 1",
     lambda raw: rows(raw)[0].update(image_id="1", category_id="1"), True),
    ("unusual form", "annotation 1",
     lambda raw: _polygon(raw, [[20, 10], [26, 10], [26, 14]]), True),  # type: ignore[list-item]
    ("unusual form", "annotation 1", lambda raw: rows(raw)[0].update(area="24"), True),
    ("polygon of odd length", "annotation 1",
     lambda raw: _polygon(raw, [20, 10, 26, 10, 26, 14, 20, 14, 9]), True),
    ("unreadable mask", "annotation 1",
     lambda raw: _polygon(raw, [20, 10, float("inf"), 10, 26, 14]), False),
    ("not a number", "annotation 1", lambda raw: rows(raw)[0].update(score=float("nan")), True),
    # the mask is 6 x 4 pixels at (20, 10)
    ("box beside its mask", "annotation 1",
     lambda raw: rows(raw)[0].update(bbox=[26, 10, 6, 4]), True),
    ("corners swapped", "annotation 1",
     lambda raw: rows(raw)[0].update(bbox=[26, 14, -6, -4], segmentation=[]), True),
    ("no annotation", "annotation number 7", lambda raw: rows(raw).append(None),  # type: ignore[arg-type]
     True),
    ("no annotations", "", lambda raw: raw.update(annotations=None), True),
    ("missing image", "image 1", lambda raw: raw["images"][0].update(file_name="no.png"), False),
    ("size differs", "image 1", lambda raw: raw["images"][0].update(height=47), False),
    ("file_name not relative", "image 1",
     lambda raw: raw["images"][0].update(file_name="/data/a.png"), False),
    ("stems collide", "train/a", lambda raw: _rename(raw, "train/a.png", "train/a.jpg"), False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "where", "change", "fixed_by"), COCO)
def test_every_fault_of_a_coco_file_is_named_with_its_id(
    good: Path, kind: str, where: str, change: Change, fixed_by: bool
) -> None:
    path = good / "annotations" / "instances.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    found = validate([path])
    assert kind in found.by_kind
    assert found.exit_code == 1
    lines = [line for line in found.left if f"{path}: {where}" in line]
    assert lines
    assert any("--fix" in line for line in lines) == fixed_by
    before = path.read_bytes()
    fixed = validate([path], fix=True)
    if fixed_by:
        assert fixed.originals == (Path(f"{path}.orig"),)
        assert Path(f"{path}.orig").read_bytes() == before
        assert kind not in validate([path]).by_kind
    else:
        assert kind in fixed.by_kind
        assert any(f"{path}: {where}" in line for line in fixed.left)


@pytest.mark.parametrize("more", [{"segments_info": []}, {"caption": "a crack"}])
def test_panoptic_files_and_captions_are_refused_whole(good: Path, more: dict[str, Any]) -> None:
    path = good / "annotations" / "instances.json"
    raw = json.loads(path.read_text())
    raw["annotations"] = [{"id": 1, "image_id": 1, **more}]
    path.write_text(json.dumps(raw))
    with pytest.raises(DataError, match=r"is COCO (panoptic|captions)"):
        validate([path], fix=True)
    assert json.loads(path.read_text()) == raw


def test_a_photo_with_exif_rotation_and_a_broken_one_are_named(good: Path) -> None:
    path = good / "annotations" / "instances.json"
    names = [entry["file_name"] for entry in json.loads(path.read_text())["images"]]
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, broken = (good / "images" / name for name in names[:2])
    turned.unlink()
    Image.new("RGB", (64, 48)).save(turned, exif=exif)
    broken.unlink()
    broken.write_bytes(b"no image")
    found = validate([path])
    assert found.by_kind == {"EXIF rotation": 1, "broken image": 1}
    assert "orientation 6" in found.left[0]


def test_files_of_one_set_that_number_categories_differently_disagree(good: Path) -> None:
    one, two = (good / "annotations" / f"instances_{split}.json" for split in ("train", "val"))
    raw = json.loads(two.read_text())
    raw["categories"].reverse()
    raw["categories"][0]["name"], raw["categories"][1]["name"] = "crack", "stain"
    two.write_text(json.dumps(raw))
    found = validate([one, two])
    assert found.by_kind == {"categories disagree": 1}


def first_labels(root: Path) -> Path:
    return next(p for p in sorted((root / "labels").rglob("*.txt")) if p.read_text())


YOLO: list[tuple[str, str, str, bool]] = [
    ("row not numbers", "0 a b c d\n", "0 a b c d\n", False),
    ("categories disagree", "2 0.5 0.5 0.1 0.1\n", "2 0.5 0.5 0.1 0.1\n", False),
    ("categories disagree", "0.5 0.5 0.5 0.1 0.1\n", "0.5 0.5 0.5 0.1 0.1\n", False),
    ("sixth column", "0 0.5 0.5 0.1 0.1 0.9\n", "0 0.5 0.5 0.1 0.1\n", True),
    ("polygon under 3 points", "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4\n1 0.5 0.5 0.1 0.1\n",
     "1 0.5 0.5 0.1 0.1\n", True),
    ("row not numbers", "0 nan 0.5 0.1 0.1\n", "", True),
    ("zero area", "0 0.5 0.5 0 0.1\n", "", True),
    # centre 0.95, half a width 0.1: sides 0.85 and 1.05, cut to 0.85 and 1.0
    ("box outside the image", "0 0.95 0.5 0.2 0.1\n", "0 0.925000 0.500000 0.150000 0.100000\n",
     True),
    ("box outside the image", "0 1.5 0.5 0.2 0.1\n", "", True),
    ("polygon outside the image", "0 0.1 0.1 1.2 0.1 0.5 0.5\n",
     "0 0.100000 0.100000 1.000000 0.100000 0.500000 0.500000\n", True),
    ("duplicate row", "0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1\n", "0 0.5 0.5 0.1 0.1\n", True),
    ("mixed rows", "0 0.5 0.5 0.1 0.1\n0 0.1 0.1 0.9 0.1 0.5 0.5\n",
     "0 0.5 0.5 0.1 0.1\n0 0.1 0.1 0.9 0.1 0.5 0.5\n", False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "after", "fixed_by"), YOLO)
def test_every_fault_of_a_yolo_row_is_named_with_its_file(
    good: Path, kind: str, text: str, after: str, fixed_by: bool
) -> None:
    path = first_labels(good)
    path.write_text(text)
    found = validate([good])
    assert found.by_kind == {kind: 1}
    assert str(path) in found.left[0]
    validate([good], fix=True)
    assert path.read_text() == after
    assert (validate([good]).faults == 0) == fixed_by


def test_faults_of_a_yolo_set_around_its_rows_are_named(good: Path) -> None:
    (good / "labels" / "train" / "stray.txt").write_text("")
    image = next((good / "images" / "train").iterdir())
    (good / "images" / "val" / image.name).write_bytes(image.read_bytes())
    twin = image.with_suffix(".jpg")
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(twin)
    text = (good / "data.yaml").read_text().replace("nc: 2", "nc: 3")
    (good / "data.yaml").write_text(text)
    found = validate([good])
    assert found.by_kind == {
        "categories disagree": 1,
        "image in two splits": 1,
        "label without image": 1,
        "stems collide": 1,
    }


@pytest.mark.parametrize("key", ["val", "test"])
def test_a_folder_of_a_yolo_set_that_is_not_there_is_a_fault_and_the_rest_is_checked(
    tmp_path: Path, key: str
) -> None:
    """Roboflow names train, valid and test, whichever there are. The row of train has width 0."""
    places = {"train": "../train/images", "val": "../train/images", key: "../gone/images"}
    yaml = "".join(f"{name}: {place}\n" for name, place in places.items()) + "names: [a]\n"
    rows = {"train/images/a.png": "", "train/labels/a.txt": "0 0.5 0.5 0 0.4\n"}
    found = validate([written(tmp_path, **{"data.yaml": yaml}, **rows)])
    assert found.by_kind == {"missing split": 1, "zero area": 1}
    assert f"there is no folder or list of images '../gone/images' for {key}" in found.left[0]


def test_a_yolo_set_is_checked_where_import_reads_it(tmp_path: Path) -> None:
    """The folder of another machine, a label file beside its photo, and one that is no text."""
    yaml = "path: D:\\sets\ntrain: images\nval: images\nnames: [a]\n"
    files = {"data.yaml": yaml, "images/a.png": "", "images/a.txt": "0 0.5 0.5 0.2 0.4\n"}
    root = written(tmp_path, **files, **{"images/b.png": "", "labels/b.txt": ""})
    (root / "labels" / "b.txt").write_bytes(b"\xff0 0.5")
    assert validate([root]).by_kind == {
        "label file elsewhere": 1, "path of another machine": 1, "unreadable label file": 1
    }  # fmt: skip


def test_a_yolo_set_without_data_yaml_is_checked(tmp_path: Path) -> None:
    files = {"labels/train/classes.txt": "a\n", "images/train/a.png": ""}
    root = written(tmp_path, **files, **{"labels/train/a.txt": "1 0.5 0.5 0.2 0.4\n"})
    assert validate([root]).by_kind == {"categories disagree": 1, "missing split": 1}


@pytest.mark.parametrize("name", ["x.txt", "x.json", "folder"])
def test_what_is_no_set_is_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir() if name == "folder" else path.write_text("[]")
    with pytest.raises(DataError, match=name):
        validate([path])
