"""Objects of foreign COCO files that are faulty, outside their image or in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from coco_of_others import RING, Raw, annotation, only, plain, read

from pipeline.errors import DataError
from pipeline.geometry.masks import area


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


def test_a_faulty_annotation_costs_itself_alone_with_keep_going(tmp_path: Path) -> None:
    raw = plain()
    raw["annotations"].insert(0, {**raw["annotations"][0], "id": 9, "image_id": 77})
    with pytest.raises(DataError, match=r"coco\.json: annotation 9 names image 77"):
        read(tmp_path, raw)
    dataset, _ = read(tmp_path, raw, keep_going=True)
    assert len(only(dataset)) == 1


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


def test_a_box_that_does_not_touch_its_mask_is_that_of_the_mask(tmp_path: Path) -> None:
    raw = plain()
    raw["annotations"][0]["bbox"] = [20, 12, 5, 5]
    dataset, counts = read(tmp_path, raw)
    assert only(dataset).boxes.tolist() == [[2, 2, 12, 8]]
    assert counts.notes[0].startswith("1 x boxes that do not touch their masks")


# of 20 rows and 30 columns, columns 2 to 11 of rows 2 to 7: 2 * 20 + 2 = 42 pixels before, then 14
# between columns, and 600 - 42 - 60 - 9 * 14 = 372 behind
RLE = {"size": [20, 30], "counts": [42, 6, *[14, 6] * 9, 372]}
OTHER_OUTLINES: dict[str, Any] = {
    "points": [[[2, 2], [12, 2], [12, 8], [2, 8]]],
    "points without a ring": [[2, 2], [12, 2], [12, 8], [2, 8]],
    "a bracket too many": [[RING]],
    "an RLE in a list": [RLE],
    "a stray ring first": [[2, 2, 12, 8], [5, 5], RING],
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
