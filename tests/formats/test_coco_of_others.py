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
from pipeline.formats.registry import FORMATS
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


def annotation(number: int, **more: Any) -> Raw:
    return {"id": number, "image_id": 1, "category_id": 1, **more}


def test_a_faulty_object_is_counted_as_left_out(tmp_path: Path) -> None:
    raw = plain()
    raw["annotations"] += [annotation(2, bbox=[1, 1, 5]), annotation(3, bbox=[1, 1, 5, 5])]
    _, counts = read(tmp_path, raw, keep_going=True)
    # 3 objects: the outline is read, the box is filled, and one box of 3 numbers is a fault
    assert (counts.images, counts.objects, counts.read) == (1, 3, 1)
    assert [(one.why, one.count) for one in counts.left_out] == [("it is faulty", 1)]
    assert "annotation 2" in counts.left_out[0].examples[0]


def test_the_objects_of_a_faulty_image_are_counted_as_left_out(tmp_path: Path) -> None:
    raw = plain()
    raw["images"].append({"id": 2, "height": 20, "width": 30})
    raw["annotations"].append(annotation(2, image_id=2, bbox=[1, 1, 5, 5]))
    dataset, counts = read(tmp_path, raw, keep_going=True)
    assert len(dataset.records) == 1
    assert (counts.images, counts.objects, counts.read) == (2, 2, 1)
    assert [one.why for one in counts.left_out] == ["its image is faulty"]


NOWHERE: dict[str, Raw] = {
    "outside": {"segmentation": [[40, 2, 50, 2, 50, 8]], "bbox": [40, 2, 10, 6]},
    "flat ring": {"segmentation": [[2, 5, 9, 5, 4, 5]]},
    "empty RLE": {"segmentation": {"size": [20, 30], "counts": [600]}, "bbox": [2, 2, 5, 5]},
    "box outside": {"segmentation": [], "bbox": [31, 2, 5, 5]},
    "box without sides": {"bbox": [5, 5, 0, 0]},
}


@pytest.mark.parametrize("entry", NOWHERE.values(), ids=NOWHERE.keys())
@pytest.mark.parametrize("alone", [True, False])
def test_what_covers_no_pixel_of_its_image_is_left_out(
    tmp_path: Path, entry: Raw, alone: bool
) -> None:
    raw = plain()
    raw["annotations"] = [annotation(9, **entry)] + ([] if alone else raw["annotations"])
    dataset, counts = read(tmp_path, raw)
    assert len(only(dataset)) == counts.read == (0 if alone else 1)
    assert counts.objects == len(raw["annotations"])
    assert "annotation 9" in counts.left_out[0].examples[0]


def test_what_reaches_out_of_its_image_is_clipped_and_counted(tmp_path: Path) -> None:
    raw = plain()
    raw["annotations"] = [annotation(1, bbox=[-4, 2, 10, 6]), annotation(2, bbox=[1, 1, 5, 5])]
    dataset, counts = read(tmp_path, raw)
    assert only(dataset).boxes[0].tolist() == [0, 2, 6, 8]
    assert counts.read == 1
    assert [one.to for one in counts.converted] == ["box clipped to the image"]
    raw["annotations"] = [annotation(1, segmentation=[[-4, 2, 6, 2, 6, 8, -4, 8]])]
    dataset, counts = read(tmp_path, raw)
    masks = only(dataset).masks
    assert masks is not None
    assert area(masks[0]) == 36  # 6 of 10 columns, 6 rows
    assert [one.to for one in counts.converted] == ["polygon clipped to the image"]
    assert (counts.objects, counts.read) == (1, 0)


def test_a_crowd_is_read_as_an_object_and_said(tmp_path: Path) -> None:
    raw = plain()
    raw["annotations"][0]["iscrowd"] = 1
    dataset, counts = read(tmp_path, raw)
    assert len(only(dataset)) == 1
    assert "iscrowd" not in only(dataset).attributes
    assert "1 x iscrowd 1 is read as an object" in counts.notes[0]


def test_a_turned_box_of_cvat_becomes_a_mask(tmp_path: Path) -> None:
    raw = plain()
    turned = {"attributes": {"occluded": False, "rotation": 90.0}}
    raw["annotations"] = [annotation(1, bbox=[10, 8, 10, 4], segmentation=[], **turned)]
    # a quarter turn about (15, 10): the box from 13 to 17, and from 5 to 15
    assert only(read(tmp_path, raw)[0]).boxes.tolist() == [[13, 5, 17, 15]]
    turned["attributes"]["rotation"] = 45.0
    dataset, counts = read(tmp_path, raw)
    masks = only(dataset).masks
    assert masks is not None
    assert area(masks[0]) == pytest.approx(40, abs=4)
    assert [(one.kind, one.to) for one in counts.converted] == [("turned box", "mask")]


OTHER_OUTLINES: dict[str, Any] = {
    "points": [[[2, 2], [12, 2], [12, 8], [2, 8]]],
    "points without a ring": [[2, 2], [12, 2], [12, 8], [2, 8]],
    "a bracket too many": [[RING]],
    "texts": [[str(value) for value in RING]],
}


@pytest.mark.parametrize("outline", OTHER_OUTLINES.values(), ids=OTHER_OUTLINES.keys())
def test_an_outline_in_another_form_is_read_and_said(tmp_path: Path, outline: object) -> None:
    raw = plain()
    raw["annotations"][0]["segmentation"] = outline
    dataset, counts = read(tmp_path, raw)
    masks = only(dataset).masks
    assert masks is not None
    assert area(masks[0]) == 60
    assert "read as they are meant" in counts.notes[0]


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


def test_without_a_file_name_the_url_names_the_photo(tmp_path: Path) -> None:
    raw = plain()
    del raw["images"][0]["file_name"]
    raw["images"][0]["coco_url"] = "http://images.cocodataset.org/val2017/a.png"
    assert read(tmp_path, raw)[0].records[0].file_name == "a.png"


SAME = [("a/1.png", "a\\1.png"), ("a/1.png", "./a//1.png")]
OTHERS = [("a/1.png", "b/1.png"), ("a/1.png", "1.png"), ("a/1.png", "A/1.PNG"),
          ("a/1.png", "a%2F1.png")]  # fmt: skip
NEITHER = [("b/1.png", "c/1.png"), ("s3://one/a/1.png", "s3://two/a/1.png")]


def two_names(tmp_path: Path, names: tuple[str, str]) -> tuple[Dataset, SourceLog]:
    """Two images of these names, with an object on each; the only photo is a/1.png."""
    write_png(tmp_path / "photos" / "a" / "1.png", np.zeros((20, 30, 3), np.uint8))
    raw = plain()
    size = {"height": 20, "width": 30}
    raw["images"] = [{"id": key, "file_name": name, **size} for key, name in enumerate(names, 1)]
    raw["annotations"] = [annotation(key, image_id=key, bbox=[2, 2, 10, 6]) for key in (1, 2)]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(raw))
    log = SourceLog(Faults(keep_going=True))
    return read_coco(path, tmp_path / "photos", log), log


@pytest.mark.parametrize("names", SAME)
def test_two_images_that_name_one_file_are_one(tmp_path: Path, names: tuple[str, str]) -> None:
    dataset, log = two_names(tmp_path, names)
    assert len(only(dataset)) == 2
    assert "is listed twice" in log.notes()[0]
    assert log.counts(dataset).images == 2


@pytest.mark.parametrize("names", [*OTHERS, *((two, one) for one, two in OTHERS)])
def test_a_photo_is_that_of_the_image_with_exactly_its_name(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    dataset, log = two_names(tmp_path, names)
    key = names.index("a/1.png") + 1
    assert [record.id for record in dataset.records] == [key]
    assert len(only(dataset)) == 1
    fault = f"has no photo: a/1.png is that of image {key}"
    assert [fault in str(error) for error in log.faults.errors] == [True]
    assert (log.counts(dataset).images, log.counts(dataset).objects) == (2, 2)


@pytest.mark.parametrize("names", NEITHER)
def test_a_photo_that_two_images_may_mean_is_that_of_none(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    dataset, log = two_names(tmp_path, names)
    assert dataset.records == ()
    assert ["may both be a/1.png" in str(error) for error in log.faults.errors] == [True, True]


def test_two_images_of_one_id_and_other_names_are_both_faulty(tmp_path: Path) -> None:
    raw = plain()
    raw["images"].append({**raw["images"][0], "file_name": "b.png"})
    dataset, counts = read(tmp_path, raw, keep_going=True)
    assert dataset.records == ()
    assert (counts.images, counts.objects) == (2, 1)


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
