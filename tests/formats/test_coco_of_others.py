"""COCO as other tools and people write it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coco_of_others import RING, Raw, only, plain, read

from pipeline.errors import DataError
from pipeline.formats.coco import read_coco, read_coco_results
from pipeline.formats.registry import FORMATS
from pipeline.geometry.masks import area


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
    "sides 0": image(height=0, width=0),
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


def test_ids_that_are_text_in_one_place_and_numbers_in_another_are_equal(tmp_path: Path) -> None:
    raw = plain()
    raw["annotations"][0] |= {"image_id": "1", "category_id": "1", "bbox": ["2", "2", "10", "6.0"]}
    dataset, _ = read(tmp_path, raw)
    assert only(dataset).boxes.tolist() == [[2, 2, 12, 8]]


def test_two_categories_of_one_name_are_one(tmp_path: Path) -> None:
    raw = plain()
    raw["categories"].append({"id": 5, "name": "crack"})
    raw["annotations"].append({**raw["annotations"][0], "id": 2, "category_id": 5})
    dataset, counts = read(tmp_path, raw)
    assert dataset.categories == ("crack",)
    assert only(dataset).labels.tolist() == [0, 0]
    assert "two categories are called 'crack'" in counts.notes[0]


def test_panoptic_files_are_refused_by_their_name(tmp_path: Path) -> None:
    raw = plain()
    raw["annotations"] = [{"image_id": 1, "file_name": "a.png", "segments_info": []}]
    with pytest.raises(DataError, match="is COCO panoptic"):
        read(tmp_path, raw, keep_going=True)


@pytest.mark.parametrize("absent", [True, False])
def test_a_list_of_test_images_has_no_object_and_says_so(tmp_path: Path, absent: bool) -> None:
    raw = plain() | {"annotations": None}
    if absent:
        del raw["annotations"]
    dataset, counts = read(tmp_path, raw)
    assert len(only(dataset)) == 0
    assert "has no list of annotations" in counts.notes[0]


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    raw = plain()
    del raw["categories"]
    with pytest.raises(DataError, match="it has no list categories"):
        read(tmp_path, raw)


def test_of_several_files_in_a_folder_the_one_of_instances_is_read(tmp_path: Path) -> None:
    """As COCO and datumaro have them; of two of instances, neither is guessed."""
    folder = tmp_path / "annotations"
    folder.mkdir()
    (folder / "captions_train.json").write_text("{}")
    (folder / "instances_train.json").write_text(json.dumps(plain()))
    assert len(FORMATS["coco"].read(tmp_path, None).records) == 1
    (folder / "instances_val.json").write_text("{}")
    with pytest.raises(DataError, match=r"several JSON files \(instances_train\.json, instances_v"):
        FORMATS["coco"].read(tmp_path, None)
