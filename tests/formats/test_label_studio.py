"""The regions in Label Studio's JSON: what is read, converted and left out."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from studio import BOX, HEIGHT, PIXELS, WIDTH, annotation, box, left_out, read, result, task

from pipeline.formats.rle_pack import encode_brush
from pipeline.geometry.masks import area, decode

POLYGON = {"points": [[12.5, 20], [37.5, 20], [37.5, 50], [12.5, 50]], "closed": True}
MASK = np.zeros((HEIGHT, WIDTH), bool)
MASK[12:30, 10:30] = True
BITMASK = (
    "data:image/png;base64,"
    + base64.b64encode(
        cv2.imencode(
            ".png", np.dstack([np.zeros((HEIGHT, WIDTH, 3), np.uint8), MASK * np.uint8(255)])
        )[1].tobytes()
    ).decode()
)


@pytest.mark.parametrize(
    ("shape", "value", "pixels", "converted"),
    [
        ("rectangle", BOX, None, {}),
        ("rectangle", BOX | {"rotation": 360}, None, {}),
        ("rectangle", BOX | {"rotation": None}, None, {}),
        # about its first corner, (30, 12): 18 wide and 20 high become 20 wide and 18 high
        ("rectangle", {"x": 37.5, "y": 20, "width": 22.5, "height": 33 + 1 / 3, "rotation": 90},
         None, {}),
        ("polygon", POLYGON, 18 * 20, {}),
        ("polygon", POLYGON | {"closed": False}, 18 * 20, {"closed polygon": 1}),
        ("brush", {"format": "rle", "rle": encode_brush(MASK)}, 18 * 20, {}),
        ("bitmask", {"imageDataURL": BITMASK}, 18 * 20, {}),
        # radii of 10 and 9 pixels: pi * 90 = 282.7
        ("ellipse", {"x": 25, "y": 35, "radiusX": 12.5, "radiusY": 15}, 283, {"mask": 1}),
        ("ellipse", {"x": 25, "y": 35, "radiusX": 11.25, "radiusY": 16 + 2 / 3, "rotation": 90},
         283, {"mask": 1}),
        # a diamond of a square of 10 * 10 pixels about (40, 12)
        ("rectangle", {"x": 50, "y": 20, "width": 12.5, "height": 16 + 2 / 3, "rotation": 45}, 100,
         {"mask": 1}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("apart", [False, True])
def test_each_shape_is_read_in_percent_of_the_photo(
    tmp_path: Path, shape: str, value: dict[str, Any], pixels: int | None,
    converted: dict[str, int], apart: bool,
) -> None:  # fmt: skip
    """apart: the label is a result of its own, as the tag Labels gives it."""
    kind = shape if apart else f"{shape}labels"
    rows = [result(kind, value if apart else value | {kind: ["crack"]})]
    rows += [result("labels", value | {"labels": ["crack"]})] if apart else []
    dataset, counts = read(tmp_path, task(annotation(*rows)))
    objects = dataset.on(dataset.records[0])
    assert (dataset.categories, objects.labels.tolist()) == (("crack",), [0])
    assert (counts.objects, counts.left_out) == (1, ())
    assert {row.to: row.count for row in counts.converted} == converted
    if pixels is None:
        assert objects.masks is None
    else:
        assert objects.masks is not None
        assert area(objects.masks[0]) == pytest.approx(pixels, abs=6 if converted else 0)
    if converted != {"mask": 1} or shape == "ellipse":
        assert objects.boxes[0] == pytest.approx(PIXELS, abs=0.6 if converted else 1e-4)


def test_an_unrotated_and_a_turned_rectangle_agree_with_label_studios_own_converter(
    tmp_path: Path,
) -> None:
    """The corners are those of label_studio_sdk 2.1.2, converter/utils.py,
    convert_annotation_to_yolo_obb, for a photo of 80 x 60 pixels."""
    value = {"x": 40, "y": 30, "width": 30, "height": 20, "rotation": 30}
    row = result("rectanglelabels", value | {"rectanglelabels": ["crack"]})
    dataset, _ = read(tmp_path, task(annotation(row)))
    masks = dataset.on(dataset.records[0]).masks
    assert masks is not None
    (mask,) = masks
    corners = np.array([(32, 18), (52.785, 30), (46.785, 40.392), (26, 28.392)])
    true = np.zeros((HEIGHT * 8, WIDTH * 8), np.uint8)
    cv2.fillPoly(true, [(corners * 8).round().astype(np.int32)], 1)
    small = cv2.resize(true.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) > 0.5
    both = decode(mask) & small
    assert both.sum() / (decode(mask) | small).sum() > 0.93  # pycocotools rounds on the left


@pytest.mark.parametrize(
    ("x", "width", "left", "right", "to"),
    [
        (-0.25, 25, 0, 19.8, None),  # by rounding
        (-12.5, 25, 0, 10, "box clipped to the image"),
        (90, 25, 72, 80, "box clipped to the image"),
        (101, 25, None, None, None),
        (-30, 25, None, None, None),
    ],
)
def test_rectangles_are_clipped_to_the_photo(
    tmp_path: Path, x: float, width: float, left: float | None, right: float | None, to: str | None
) -> None:
    row = result("rectanglelabels", BOX | {"x": x, "width": width, "rectanglelabels": ["a"]})
    dataset, counts = read(tmp_path, task(annotation(row)))
    boxes = dataset.on(dataset.records[0]).boxes
    if left is None:
        assert (len(boxes), left_out(counts)) == (0, {"rectanglelabels": 1})
        return
    assert boxes[0, [0, 2]] == pytest.approx([left, right])
    assert [each.to for each in counts.converted] == ([] if to is None else [to])


def test_rectangles_beside_a_mask_become_filled_masks(tmp_path: Path) -> None:
    polygon = result("polygonlabels", POLYGON | {"polygonlabels": ["stain"]}, "r2")
    dataset, counts = read(tmp_path, task(annotation(box(), polygon)))
    objects = dataset.on(dataset.records[0])
    assert [area(mask) for mask in objects.masks or ()] == [360, 360]
    assert (counts.read, counts.converted[0].to) == (1, "filled mask")


@pytest.mark.parametrize(
    ("rows", "read_objects", "left"),
    [
        ([], 0, {}),
        ([result("choices", {"choices": ["bad"]}), box()], 1, {"choices": 1}),
        ([box(), {"type": "relation", "from_id": "r1", "to_id": "r1"}], 1, {"relation": 1}),
        ([result("keypointlabels", {"x": 1, "y": 1, "keypointlabels": ["a"]}), box(key="b")], 1,
         {"keypointlabels": 1}),
        ([result("vectorlabels", {"vertices": [], "vectorlabels": ["a"]})], 0, {"vectorlabels": 1}),
        ([result("rectangle", BOX)], 0, {"rectangle": 1}),  # without a label
        ([result("rectanglelabels", BOX)], 0, {"rectanglelabels": 1}),
        ([box(), result("rectanglelabels", BOX | {"rectanglelabels": []}, "r2")], 1,
         {"rectanglelabels": 1}),
        ([result("rectanglelabels", BOX | {"rectanglelabels": ["a", "b", "c"]})], 1, {"label": 2}),
        ([result("rectanglelabels", BOX | {"width": 0, "rectanglelabels": ["a"]})], 0,
         {"rectanglelabels": 1}),
        ([result("polygonlabels", {"points": [[1, 1], [2, 2]], "polygonlabels": ["a"]})], 0,
         {"polygonlabels": 1}),
        ([result("ellipselabels", {"x": 9, "y": 9, "radiusX": 0, "radiusY": 0,
                                   "ellipselabels": ["a"]})], 0, {"ellipselabels": 1}),
        # without ids, or with one id for all: each is a region of its own
        ([box(key=None), box("a", None, x=50)], 2, {}),
        ([box(), box("a", x=50)], 2, {}),
        # two controls of one region: one object
        ([box(), result("labels", BOX | {"labels": ["crack"]})], 1, {}),
        ([result("labels", BOX | {"labels": ["crack"]})], 1, {}),  # its only result
        ([result("RectangleLabels", BOX | {"rectanglelabels": ["a"]})], 1, {}),
    ],
)  # fmt: skip
def test_each_result_is_read_or_counted_as_left_out(
    tmp_path: Path, rows: list[Any], read_objects: int, left: dict[str, int]
) -> None:
    dataset, counts = read(tmp_path, task(annotation(*rows)))
    assert sum(len(each) for each in dataset.objects.values()) == counts.read == read_objects
    assert left_out(counts) == left
    assert len(dataset.records) == 1
