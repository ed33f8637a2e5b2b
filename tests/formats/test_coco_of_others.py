"""COCO as other tools and people write it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DataError, Faults
from pipeline.formats.coco import read_coco, read_coco_results
from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.geometry.masks import area
from pipeline.io.images import write_png
from pipeline.types import Dataset, Detections

RING = [2, 2, 12, 2, 12, 8, 2, 8]  # 10 x 6 pixels
Raw = dict[str, Any]


def plain() -> Raw:
    """One image with one object, as COCO has it."""
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 6],
                         "area": 60, "iscrowd": 0, "segmentation": [RING]}],
        "categories": [{"id": 1, "name": "crack"}],
    }  # fmt: skip


def read(tmp_path: Path, raw: Raw, keep_going: bool = False) -> tuple[Dataset, SourceCounts]:
    photos = tmp_path / "photos"
    write_png(photos / "a.png", np.zeros((20, 30, 3), np.uint8))
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(raw))
    log = SourceLog(Faults(keep_going))
    dataset = read_coco(path, photos, log)
    return dataset, log.counts(dataset)


def only(dataset: Dataset) -> Detections:
    assert len(dataset.records) == 1
    return dataset.on(dataset.records[0])


def test_a_file_without_annotations_has_no_object(tmp_path: Path) -> None:
    dataset, counts = read(tmp_path, plain() | {"annotations": []})
    assert (counts.images, counts.objects, counts.left_out) == (1, 0, ())
    assert len(only(dataset)) == 0


def image(**more: Any) -> Callable[[Raw], None]:
    return lambda raw: raw["images"][0].update(more)


def row(**more: Any) -> Callable[[Raw], None]:
    return lambda raw: raw["annotations"][0].update(more)


def texts_as_ids(raw: Raw) -> None:
    raw["images"][0]["id"] = raw["annotations"][0]["image_id"] = "line3_cam2"
    raw["categories"][0]["id"] = raw["annotations"][0]["category_id"] = "c"


CHANGES: dict[str, Callable[[Raw], None]] = {
    "as COCO has it": row(),
    "flat ring": row(segmentation=RING),
    "an empty ring beside": row(segmentation=[RING, []]),
    "no bbox": lambda raw: raw["annotations"][0].pop("bbox"),
    "bbox []": row(bbox=[]),
    "no area, no id, no iscrowd": lambda raw: raw["annotations"].__setitem__(
        0, {k: raw["annotations"][0][k] for k in ("image_id", "category_id", "segmentation")}
    ),
    "no height, no width": lambda raw: raw["images"].__setitem__(
        0, {"id": 1, "file_name": "a.png"}
    ),
    "sides null": image(height=None, width=None),
    "sides with a point": image(height=20.0, width=30.0),
    "score null": row(score=None),
    "private keys": row(attributes={"occluded": False}, track="x"),
    "texts as ids": texts_as_ids,
    "id 0": lambda raw: (image(id=0)(raw), row(image_id=0, id=0)(raw))[0],
    "Windows": image(file_name="..\\photos\\a.png"),
    "a drive": image(file_name="D:/line/photos/a.png"),
    "another folder": image(file_name="images/a.png"),
    "info null": lambda raw: raw.update(info=None, licenses=None),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_other_tools_write_is_read_as_it_is_meant(
    tmp_path: Path, change: Callable[[Raw], None]
) -> None:
    raw = plain()
    change(raw)
    dataset, counts = read(tmp_path, raw)
    objects = only(dataset)
    assert objects.boxes.tolist() == [[2, 2, 12, 8]]
    assert objects.masks is not None
    assert area(objects.masks[0]) == 60
    assert objects.scores is None
    assert dataset.records[0].file_name == "a.png"
    assert (counts.objects, counts.read, counts.left_out) == (1, 1, ())


def test_a_box_among_masks_becomes_a_filled_mask_and_is_counted(tmp_path: Path) -> None:
    raw = plain()
    box = {"id": 2, "image_id": 1, "category_id": 1, "bbox": [20, 10, 5, 4], "segmentation": []}
    raw["annotations"].append(box)
    dataset, counts = read(tmp_path, raw)
    assert [area(mask) for mask in only(dataset).masks or ()] == [60, 20]
    assert [(one.to, one.count) for one in counts.converted] == [("filled mask", 1)]
    assert (counts.objects, counts.read) == (2, 1)


def test_what_has_neither_outline_nor_box_is_left_out_and_named(tmp_path: Path) -> None:
    raw = plain()
    raw["annotations"] += [
        {"id": 7, "image_id": 1, "category_id": 1, "keypoints": [3, 3, 2], "num_keypoints": 1},
        {"id": 8, "image_id": 1, "category_id": 1, "segmentation": []},
    ]
    _, counts = read(tmp_path, raw)
    assert [(one.kind, one.count) for one in counts.left_out] == [
        ("keypoints", 1),
        ("annotation", 1),
    ]
    assert "annotation 7" in counts.left_out[0].examples[0]
    assert counts.objects == 3


def test_an_image_that_is_listed_twice_has_the_objects_of_both(tmp_path: Path) -> None:
    raw = plain()
    raw["images"].append({**raw["images"][0], "id": 2})
    raw["annotations"].append({**raw["annotations"][0], "id": 2, "image_id": 2})
    dataset, counts = read(tmp_path, raw)
    assert len(only(dataset)) == 2
    assert "listed twice" in counts.notes[0]


def test_a_faulty_annotation_costs_itself_alone_with_keep_going(tmp_path: Path) -> None:
    raw = plain()
    raw["annotations"].insert(0, {**raw["annotations"][0], "id": 9, "image_id": 77})
    with pytest.raises(DataError, match=r"coco\.json: annotation 9 names image 77"):
        read(tmp_path, raw)
    dataset, _ = read(tmp_path, raw, keep_going=True)
    assert len(only(dataset)) == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_as_windows_tools_save_it_is_read(tmp_path: Path, encoding: str) -> None:
    raw = plain()
    raw["categories"][0]["name"] = "Kratzer \u00fc \U0001f600"
    (tmp_path / "coco.json").write_text(json.dumps(raw, ensure_ascii=False), encoding=encoding)
    dataset = read_coco(tmp_path / "coco.json")
    assert dataset.categories == ("Kratzer \u00fc \U0001f600",)
    assert len(only(dataset)) == 1


@pytest.mark.parametrize("name", [1, "a", "a.png"])
def test_results_name_an_image_by_id_or_by_file_name(tmp_path: Path, name: object) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(plain()))
    result = {"image_id": name, "category_id": 1, "bbox": [2, 2, 10, 6], "score": 0.5}
    (tmp_path / "results.json").write_text(json.dumps([result]))
    dataset = read_coco_results(tmp_path / "results.json", tmp_path / "truth.json")
    assert only(dataset).boxes.tolist() == [[2, 2, 12, 8]]
