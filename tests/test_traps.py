"""What other converters lose without a word, one test each; each names who reads the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.config.schema import ConvertConfig
from pipeline.formats.coco import write_coco, write_coco_results
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry import patches
from pipeline.geometry.polygons import (
    centre_ring,
    coco_rings,
    draw_centres,
    draw_coco,
    draw_yolo,
    to_yolo,
)
from pipeline.metrics.detection import average_precision
from pipeline.stages.convert_masks import convert_masks
from pipeline.types import Dataset, Detections, ImageRecord

MakeProduct = Callable[..., Path]
RECORD = ImageRecord(1, Path("a.png"), "a.png", 40, 50)


def block(width: int, height: int) -> np.ndarray:
    mask = np.zeros((40, 50), bool)
    mask[5 : 5 + height, 7 : 7 + width] = True
    return mask


def frame() -> np.ndarray:
    mask = block(20, 20)
    mask[9:20, 11:22] = False
    return mask


def coco_of(folder: Path, objects: Detections, loss: float | None = None) -> COCO:
    write_coco(folder / "truth.json", Dataset(("crack",), (RECORD,), {1: objects}), loss)
    return COCO(str(folder / "truth.json"))


def ap_of_itself(truth: COCO, kind: str) -> float:
    found = truth.loadRes([{**row, "score": 0.9} for row in truth.dataset["annotations"]])
    evaluation = COCOeval(truth, found, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def contour_ring(mask: np.ndarray) -> np.ndarray:
    (contour, *_), _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    return contour[:, 0].astype(np.float64)


@pytest.mark.parametrize(("side", "by_contour"), [(10, 81), (2, 1), (1, 0)])
def test_contours_of_opencv_lose_a_pixel_an_axis_in_coco_and_ours_none(
    side: int, by_contour: int
) -> None:
    mask = block(side, side)
    assert draw_coco([contour_ring(mask)], 40, 50).area == by_contour
    assert draw_coco(coco_rings(patches.tight(mask)), 40, 50).area == side * side


def test_rings_on_pixel_edges_are_wrong_for_fillpoly_so_yolo_has_its_own() -> None:
    mask = block(10, 10)
    (edges,) = coco_rings(patches.tight(mask))
    assert draw_yolo(edges / [50, 40], 40, 50).area == 11 * 11
    ours = to_yolo(centre_ring(patches.tight(mask)), 40, 50)
    assert draw_yolo(ours, 40, 50).area == 10 * 10


def test_ultralytics_truncates_so_half_a_pixel_is_added_before_dividing() -> None:
    """Six digits of 0.14 x 50 = 7 read as 6.99...: without the half, pixels are lost."""
    lost = 0
    for size in range(30, 60):
        ring = centre_ring(patches.tight(np.pad(block(20, 20), ((0, size), (0, size)))))
        height, width = 40 + size, 50 + size
        plain = (ring / [width, height]).round(6)
        truncated = (plain * [width, height]).astype(np.int32)
        lost += draw_centres(truncated, height, width).area != 400
        assert draw_yolo(plain, height, width).area == 400  # what others wrote without the half
        assert draw_yolo(to_yolo(ring, height, width).round(6), height, width).area == 400
    assert lost > 0


def test_masks_of_0_and_255_are_not_empty_and_those_of_0_and_1_neither(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    """ultralytics' converter writes empty files for the first."""
    for value in (255, 1):
        mask = block(6, 4).astype(np.uint8) * np.uint8(value)
        product = make_product({"crack": 1}, mask=mask, size=(40, 50), name=f"p{value}")
        out = tmp_path / f"out{value}"
        assert convert_masks([product], out, ConvertConfig()).pixels_in_coco == 24
        rows = [p.read_text() for p in (out / "segment" / "labels").rglob("*.txt")]
        assert sum(map(bool, rows)) == 1


@pytest.mark.parametrize("segments", ["coco", "yolo-segment"])
def test_a_ring_four_parts_and_a_scratch_of_one_pixel_are_kept(
    make_product: MakeProduct, tmp_path: Path, segments: str
) -> None:
    """ultralytics' converter: a ring becomes IoU 0.66, one of four parts 0.25, a scratch none."""
    parts, scratch = np.zeros((2, 40, 50), bool)
    for y, x in ((2, 2), (2, 30), (25, 2), (25, 30)):
        parts[y : y + 8, x : x + 8] = True
    scratch[20, 3:40] = True
    for name, mask, least in (("ring", frame(), 1.0), ("parts", parts, 0.7), ("one", scratch, 1.0)):
        product = make_product(
            {"crack": 1}, mask=mask.astype(np.uint8) * 255, size=(40, 50), name=name
        )
        config = ConvertConfig(one_instance=True, polygons=True)
        row = convert_masks([product], tmp_path / f"o{name}", config).fidelity[segments]
        assert (row.instances, row.lost) == (1, 0)
        assert row.iou_min is not None
        assert row.iou_min >= (1.0 if segments == "coco" else least)


@pytest.mark.parametrize("loss", [None, 0.0])
def test_a_mask_with_a_hole_or_several_parts_is_no_crowd(
    tmp_path: Path, loss: float | None
) -> None:
    """supervision and datumaro write iscrowd 1 for them: a perfect prediction then has AP -1."""
    two = block(4, 4)
    two[30:34, 30:34] = True
    objects = Detections.from_masks([mask_geometry.encode(mask) for mask in (frame(), two)], 0)
    truth = coco_of(tmp_path, objects, loss)
    assert {row["iscrowd"] for row in truth.dataset["annotations"]} == {0}
    assert ap_of_itself(truth, "segm") == pytest.approx(1.0)
    for row in truth.dataset["annotations"]:
        row["iscrowd"] = 1
    truth.createIndex()
    assert ap_of_itself(truth, "segm") == -1  # what the trap does


def test_annotation_ids_start_at_1_for_0_has_ap_0(tmp_path: Path) -> None:
    truth = coco_of(tmp_path, Detections.from_masks([mask_geometry.encode(block(9, 9))], 0))
    assert [row["id"] for row in truth.dataset["annotations"]] == [1]
    assert ap_of_itself(truth, "bbox") == pytest.approx(1.0)
    truth.dataset["annotations"][0]["id"] = 0
    truth.createIndex()
    assert ap_of_itself(truth, "bbox") == 0  # what the trap does


def test_category_ids_start_at_1(tmp_path: Path) -> None:
    truth = coco_of(tmp_path, Detections.none())
    assert [entry["id"] for entry in truth.dataset["categories"]] == [1]


def test_no_predictions_are_an_ap_of_0_and_no_error() -> None:
    """COCO.loadRes raises IndexError for an empty list."""
    truth = Dataset(
        ("crack",),
        (RECORD,),
        {1: Detections.from_masks([mask_geometry.encode(block(9, 9))], 0)},
    )
    assert average_precision(truth, {}, "bbox").ap == 0


def test_evaluating_twice_gives_the_same_for_nothing_is_changed(tmp_path: Path) -> None:
    """COCO.loadRes adds to the rows that it is given."""
    objects = Detections.from_masks([mask_geometry.encode(block(9, 9))], 0)
    scored = Detections(objects.boxes, objects.labels, np.ones(1, np.float32), objects.masks)
    truth = Dataset(("crack",), (RECORD,), {1: objects})
    first = average_precision(truth, {1: scored}, "segm")
    assert average_precision(truth, {1: scored}, "segm") == first
    assert first.ap == pytest.approx(1.0)
    write_coco_results(tmp_path / "r.json", Dataset(("crack",), (RECORD,), {1: scored}))
    (row,) = json.loads((tmp_path / "r.json").read_text())
    assert row.keys() == {"image_id", "category_id", "bbox", "segmentation", "score"}


def test_boxes_are_half_open_as_in_to_bbox(tmp_path: Path) -> None:
    """30 pixels are 30 wide; counting the last pixel's index says 29."""
    truth = coco_of(tmp_path, Detections.from_masks([mask_geometry.encode(block(30, 4))], 0))
    assert truth.dataset["annotations"][0]["bbox"] == [7, 5, 30, 4]


def test_every_run_length_text_is_pycocotools_own(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    from pycocotools import mask as coco_mask

    mask = frame()
    product = make_product({"crack": 1}, mask=mask.astype(np.uint8) * 255, size=(40, 50))
    convert_masks([product], tmp_path / "out", ConvertConfig())
    raw: dict[str, Any] = json.loads(
        (tmp_path / "out" / "annotations" / "instances.json").read_text()
    )
    (row,) = raw["annotations"]
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert row["segmentation"] == {"size": [40, 50], "counts": theirs["counts"].decode()}


def test_an_image_of_more_than_255_objects_is_converted(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    """pycocotools.mask.area raises OverflowError for 256 masks at once; 8-bit PNG masks end too."""
    mask = np.zeros((40, 50), np.uint8)
    mask[::2, ::2] = 255  # 20 x 25 single pixels
    product = make_product({"crack": 1}, mask=mask, size=(40, 50))
    found = convert_masks([product], tmp_path / "out", ConvertConfig())
    assert found.instances == 500
    assert {row.iou_min for row in found.fidelity.values()} == {1.0}


def test_a_doubled_seam_to_each_hole_changes_no_pixel() -> None:
    mask = frame()
    mask[12:14, 14:16] = True  # an island in the hole: a part of its own in the same instance
    mask[6, 9] = False  # a second hole
    patch = patches.tight(mask)
    assert patches.count_parts_and_holes(patch) == (2, 2)
    drawn = draw_coco(coco_rings(patch), 40, 50)
    assert (patches.paste(drawn, 40, 50) == mask).all()
