"""What `validate --fix` changes, moves and keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from validated import rows

from pipeline.stages.validate import validate


def test_a_fix_changes_nothing_that_was_right(good: Path) -> None:
    path = good / "annotations" / "instances.json"
    raw = json.loads(path.read_text())
    expected = deepcopy(raw)
    raw["annotations"][2]["image_id"] = str(raw["annotations"][2]["image_id"])
    path.write_text(json.dumps(raw))
    assert validate([path], fix=True).fixed == 1
    assert json.loads(path.read_text()) == expected


def test_a_crowd_with_an_rle_is_no_fault_and_stays(good: Path) -> None:
    """As in COCO, whose crowds all have an RLE: a region that an evaluation ignores."""
    path = good / "annotations" / "instances.json"
    raw = json.loads(path.read_text())
    assert isinstance(raw["annotations"][0]["segmentation"], dict)
    raw["annotations"][0]["iscrowd"] = 1
    path.write_text(text := json.dumps(raw))
    assert validate([path], fix=True).faults == 0
    assert path.read_text() == text


def test_what_no_tool_can_read_is_moved_to_rejected_json(good: Path) -> None:
    path = good / "annotations" / "instances.json"
    raw = json.loads(path.read_text())
    lost = {"id": 99, "image_id": 1, "category_id": 1}
    raw["annotations"].append(lost)
    path.write_text(json.dumps(raw))
    for count in (1, 2):  # the second time it is added to the first
        fixed = validate([path], fix=True)
        assert (fixed.rejected, fixed.rejected_files) == (1, (path.with_name("rejected.json"),))
        kept = json.loads(path.with_name("rejected.json").read_text())
        assert kept == {"instances.json": [lost] * count}
        path.write_text(json.dumps(raw))


KEPT: dict[str, Callable[[dict[str, Any]], object]] = {
    "texts as ids": lambda raw: [
        *(entry.update(id=str(entry["id"])) for entry in (*raw["images"], *raw["categories"])),
        *(row.update(image_id=str(row["image_id"])) for row in rows(raw)),
    ],
    "keypoints": lambda raw: rows(raw)[0].update(keypoints=[3, 3, 2], bbox=None, segmentation=None),
    "size of another photo": lambda raw: [
        entry.update(height=8, width=8) for entry in raw["images"]
    ],
    "LVIS": lambda raw: [
        entry.update(coco_url=f"http://h/{entry.pop('file_name')}") for entry in raw["images"]
    ],
}


@pytest.mark.parametrize("change", KEPT.values(), ids=KEPT.keys())
def test_a_fix_keeps_what_other_tools_read(
    good: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    path = good / "annotations" / "instances.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    assert validate([path], fix=True).rejected == 0
    fixed = rows(json.loads(path.read_text()))
    for row, before in zip(fixed, rows(raw), strict=True):
        assert row["segmentation"] == before["segmentation"]
        assert row["bbox"] == before["bbox"]


@pytest.mark.parametrize("turned", [False, True])
def test_a_mask_of_swapped_size_is_mended_where_its_box_says_how(good: Path, turned: bool) -> None:
    """Images of 48 x 64 (height, width), and masks of 64 x 48: by their size alone, or drawn with x
    for y."""
    path = good / "annotations" / "instances.json"
    expected = json.loads(path.read_text())
    raw = deepcopy(expected)
    for row in rows(raw):
        rle = {**row["segmentation"], "size": [48, 64]}
        turn = np.asfortranarray(coco_mask.decode(rle).T)
        counts = coco_mask.encode(turn)["counts"].decode() if turned else rle["counts"]
        row["segmentation"] = {"size": [64, 48], "counts": counts}
    path.write_text(json.dumps(raw))
    assert validate([path]).by_kind == {"mask of swapped size": len(rows(raw))}
    fixed = validate([path], fix=True)
    assert (fixed.rejected, fixed.left) == (0, ())
    assert json.loads(path.read_text()) == expected


@pytest.mark.parametrize("box", [[30, 10, 6, 4], None])
def test_a_mask_of_swapped_size_that_does_not_fill_its_box_is_moved(
    good: Path, box: list[int] | None
) -> None:
    path = good / "annotations" / "instances.json"
    raw = json.loads(path.read_text())
    count = len(rows(raw))
    rows(raw)[0]["segmentation"]["size"] = [64, 48]
    rows(raw)[0]["bbox"] = box
    path.write_text(json.dumps(raw))
    assert validate([path], fix=True).rejected == 1
    assert json.loads(path.with_name("rejected.json").read_text()) == {
        "instances.json": [rows(raw)[0]]
    }
    assert len(rows(json.loads(path.read_text()))) == count - 1


@pytest.mark.parametrize("form", ["images/{}", "C:\\data\\images\\{}", "file:///data/{}"])
def test_a_file_name_of_another_machine_is_set_to_its_photo(good: Path, form: str) -> None:
    path = good / "annotations" / "instances.json"
    before = json.loads(path.read_text())
    raw = deepcopy(before)
    raw["images"][0]["file_name"] = form.format(before["images"][0]["file_name"])
    path.write_text(json.dumps(raw))
    found = validate([path], fix=True)
    assert (found.faults, found.left) == (1, ())
    assert json.loads(path.read_text()) == before


def test_what_is_rejected_is_json_and_no_fault_of_it_is_left(good: Path) -> None:
    path = good / "annotations" / "instances.json"
    raw = json.loads(path.read_text())
    rows(raw)[0].update(segmentation=[], bbox=[float("nan"), 10, 6, 4])
    rows(raw)[1].update(segmentation=[[70, 1, 80, 1, 80, 9]], bbox=[70, 1, 10, 8])
    path.write_text(json.dumps(raw))
    fixed = validate([path], fix=True)
    assert (fixed.rejected, fixed.left) == (2, ())
    kept = json.loads(path.with_name("rejected.json").read_text())
    assert kept["instances.json"][0]["bbox"] == ["nan", 10, 6, 4]


def test_fixing_twice_keeps_both_originals(good: Path) -> None:
    path = good / "annotations" / "instances.json"
    for _ in range(2):
        raw = json.loads(path.read_text())
        raw["annotations"][0]["id"] = 0
        path.write_text(json.dumps(raw))
        validate([path], fix=True)
    assert path.with_name("instances.json.orig2").is_file()
