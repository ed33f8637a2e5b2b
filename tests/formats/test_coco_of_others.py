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
from pipeline.stages.validate import validate


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


PAIRS = [list(pair) for pair in zip(RING[::2], RING[1::2], strict=True)]
POINTS = [{"x": x, "y": y} for x, y in PAIRS]
RLE = {"size": [20, 30], "counts": [42, *[6, 14] * 9, 6, 372]}  # 10 columns of 6, the first is 2
FORMS: dict[str, tuple[Raw, str]] = {
    "outline as text": ({"segmentation": json.dumps([RING])}, "a box as text"),
    "outline as text, flat": ({"segmentation": json.dumps(RING)}, "a box as text"),
    "RLE as text": ({"segmentation": json.dumps(RLE)}, "a box as text"),
    "numbers as text in text": ({"segmentation": json.dumps([[*map(str, RING)]])}, "that are text"),
    "box as text": ({"bbox": "[2, 2, 10, 6]"}, "a box as text"),
    "points x, y": ({"segmentation": POINTS}, "names for its numbers"),
    "points x, y in a list": ({"segmentation": [POINTS]}, "names for its numbers"),
    "points 0, 1": ({"segmentation": [[{"0": x, "1": y} for x, y in PAIRS]]}, "names for its"),
    "rings by number": ({"segmentation": {"0": RING}}, "names for its numbers"),
    "numbers by number": ({"segmentation": {str(i): v for i, v in enumerate(RING)}}, "names for"),
    "all x, all y": ({"segmentation": {"x": RING[::2], "y": RING[1::2]}}, "names for its numbers"),
    "points as text": ({"segmentation": json.dumps(POINTS)}, "a box as text"),
    "box by sides": ({"bbox": {"x": 2, "y": 2, "w": 10, "h": 6}}, "names for its numbers"),
    "box by corners": ({"bbox": {"xmin": 2, "ymin": 2, "xmax": 12, "ymax": 8}}, "names for its"),
    "box by edges": ({"bbox": {"Left": 2, "Top": 2, "Right": 12, "Bottom": 8}}, "names for its"),
    "box as four numbers": ({"bbox": "2, 2, 10, 6"}, "a box as text"),
    "points below a name": ({"segmentation": {"points": PAIRS}}, "names for its numbers"),
    "points X, Y": ({"segmentation": [{"X": x, "Y": y} for x, y in PAIRS]}, "names for its"),
    "box by number": ({"bbox": {"0": 2, "1": 2, "2": 10, "3": 6}}, "names for its numbers"),
    "box of five beside an outline": ({"bbox": [7, 5, 10, 6, 0.3]}, "that of the outline is taken"),
}


@pytest.mark.parametrize(("change", "note"), FORMS.values(), ids=FORMS.keys())
def test_numbers_in_text_and_mappings_are_read_where_their_meaning_is_certain(
    tmp_path: Path, change: Raw, note: str
) -> None:
    raw = plain()
    raw["annotations"][0] |= change
    dataset, counts = read(tmp_path, raw)
    objects = only(dataset)
    assert objects.boxes.tolist() == [[2, 2, 12, 8]]
    assert [area(mask) for mask in objects.masks or ()] == [60]
    assert (counts.objects, counts.read, counts.left_out) == (1, 1, ())
    assert any(note in text and "annotation 1" in text for text in counts.notes)
    validate([tmp_path / "coco.json"], images=tmp_path / "photos", fix=True)
    assert validate([tmp_path / "coco.json"], images=tmp_path / "photos").faults == 0


UNCERTAIN: dict[str, Raw] = {
    "text that is no JSON": {"segmentation": "2 2 12 2 12 8"},
    "text with a bracket open": {"segmentation": "[[2, 2"},
    "a mapping of other names": {"segmentation": {"lat": 1, "lon": 2}},
    "lists of two lengths": {"segmentation": {"x": [2, 12, 12], "y": [2, 2]}},
    "a box of five numbers": {"segmentation": [], "bbox": [7, 5, 10, 6, 30]},
    "a box of five numbers, a score that is a list": {
        "segmentation": [],
        "bbox": [7, 5, 10, 6, 30],
        "score": [0.5],
    },
    "corners that are too large": {
        "segmentation": [],
        "bbox": {"x1": 1.5, "y1": 1, "x2": 10**400, "y2": 2},
    },
    "a box of four names": {"segmentation": [], "bbox": {"a": 1, "b": 2, "c": 3, "d": 4}},
}


@pytest.mark.parametrize("change", UNCERTAIN.values(), ids=UNCERTAIN.keys())
def test_what_may_mean_several_things_is_refused_by_its_object_and_counted_when_kept_going(
    tmp_path: Path, change: Raw
) -> None:
    raw = plain()
    raw["annotations"].append(dict(raw["annotations"][0]) | {"id": 7} | change)
    with pytest.raises(DataError, match="annotation 7"):
        read(tmp_path, raw)
    dataset, counts = read(tmp_path, raw, keep_going=True)
    assert len(only(dataset)) == 1
    assert [(row.count, row.examples) for row in counts.left_out] == [
        (1, ("coco.json annotation 7",))
    ]
    found = validate([tmp_path / "coco.json"], images=tmp_path / "photos")
    assert any("annotation 7" in text for text in found.left)


@pytest.mark.parametrize("name", ["rotation", "angle", "theta"])
def test_a_box_with_an_angle_that_coco_has_not_is_said(tmp_path: Path, name: str) -> None:
    raw = plain()
    raw["annotations"][0] |= {"segmentation": [], name: 30}
    dataset, counts = read(tmp_path, raw)
    assert only(dataset).boxes.tolist() == [[2, 2, 12, 8]]
    assert counts.notes[0].startswith("1 x boxes with an angle of their own")
    raw["annotations"][0][name] = 0
    assert read(tmp_path, raw)[1].notes == ()


def test_the_fifth_number_of_a_box_is_cut_off_where_the_row_says_what_it_is(tmp_path: Path) -> None:
    raw = plain()
    box = {"segmentation": [], "bbox": [2, 2, 10, 6, 0.25], "score": 0.25}
    raw["annotations"][0] |= box
    dataset, counts = read(tmp_path, raw)
    assert only(dataset).boxes.tolist() == [[2, 2, 12, 8]]
    assert only(dataset).scores.tolist() == [0.25]  # type: ignore[union-attr]
    assert "score or angle as fifth number" in counts.notes[0]


def test_fix_keeps_a_box_of_five_numbers_that_tools_for_turned_boxes_read(tmp_path: Path) -> None:
    raw = plain()
    raw["annotations"][0] |= {"segmentation": [], "bbox": [7, 5, 10, 6, 30]}
    (tmp_path / "coco.json").write_text(json.dumps(raw))
    found = validate([tmp_path / "coco.json"], fix=True)
    assert (found.by_kind, found.rejected) == ({"box of 5 numbers": 1}, 0)


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
