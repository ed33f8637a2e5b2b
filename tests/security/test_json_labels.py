"""Hostile values in label files of JSON end as one line with the file and the place in it."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.formats.coco_masks import segmentation_rle
from pipeline.formats.registry import FORMATS
from pipeline.formats.rle_pack import decode_brush, encode_brush
from pipeline.io.images import write_png
from pipeline.stages.validate import validate

INF, NAN = float("inf"), float("nan")
BRUSH = encode_brush(np.pad(np.ones((5, 5), bool), ((5, 5), (5, 10))))  # on 15 x 20 pixels


def png(width: int, height: int) -> str:
    """A PNG of this size with a single row of data, in base64."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(20))), (b"IEND", b"")):
        check = struct.pack(">I", zlib.crc32(kind + body))
        data += struct.pack(">I", len(body)) + kind + body + check
    return base64.b64encode(data).decode()


COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 15, "width": 20}],
    "categories": [{"id": 1, "name": "crack"}],
    "annotations": [
        {"id": 7, "image_id": 1, "category_id": 1, "bbox": [5, 5, 5, 5],
         "segmentation": [[5, 5, 10, 5, 10, 10, 5, 10]]}
    ],
}  # fmt: skip
RESULT = {"type": "brushlabels", "original_width": 20, "original_height": 15,
          "value": {"rle": BRUSH, "brushlabels": ["crack"]}}  # fmt: skip
STUDIO = [{"id": 7, "data": {"image": "a.png"}, "annotations": [{"result": [RESULT]}]}]
LABELME = {
    "imagePath": "a.png", "imageHeight": 15, "imageWidth": 20,
    "shapes": [{"label": "crack", "shape_type": "polygon", "points": [[5, 5], [9, 5], [9, 9]]}],
}  # fmt: skip
GOOD = {"height": 15, "width": 20, "labels": []}
PNG = {"categories": ["crack"], "images": {"a.png": {"height": 15, "width": 20, "labels": [0]}}}

Path_ = tuple[str | int, ...]
FILES: dict[str, tuple[str, Any]] = {
    "coco": ("annotations/instances.json", COCO),
    "label-studio": ("tasks.json", STUDIO),
    "labelme": ("a.json", LABELME),
    "png": ("masks/objects.json", PNG),
}
ROW, RECORD = ("annotations", 0), ("images", 0)
SEGMENTATION = (*ROW, "segmentation")
FOUND = (0, "annotations", 0, "result", 0)
SHAPE = ("shapes", 0)
LISTED = ("images", "a.png")
HOSTILE: list[tuple[str, Path_, Any, str]] = [
    ("coco", (*ROW, "bbox"), [1, 2], "annotation 7 bbox"),
    ("coco", (*ROW, "bbox", 0), INF, "annotation 7 bbox"),
    ("coco", (*ROW, "bbox", 0), NAN, "annotation 7 bbox"),
    ("coco", (*ROW, "bbox", 0), True, "annotation 7 bbox"),
    ("coco", (*ROW, "bbox", 0), 1e300, "annotation 7 bbox"),
    ("coco", (*ROW, "bbox", 0), 10**4000, "annotation 7 bbox"),
    ("coco", (*ROW, "image_id"), [1], "annotation 7 image_id"),
    ("coco", (*ROW, "id"), 2**63, "id"),
    ("coco", (*ROW, "id"), True, "annotation True id"),
    ("coco", (*ROW, "score"), "x", "annotation 7 score"),
    ("coco", (*ROW, "expected_iou"), INF, "image 1: 'expected_iou' should be a finite number"),
    ("coco", (*ROW, "\ud800"), 1, "annotation 7"),
    ("coco", SEGMENTATION, [[1, 2, 3, 4, 5, 6, 7]], "annotation 7: a polygon of 7 numbers"),
    ("coco", SEGMENTATION, [[1, 2, 3, 4]], "annotation 7: a polygon of 4 numbers"),
    ("coco", SEGMENTATION, [1, 2, 3, 4, 5], "annotation 7: a polygon of 5 numbers"),
    ("coco", SEGMENTATION, "x", "annotation 7: a segmentation that is 'x'"),
    ("coco", (*SEGMENTATION, 0, 0), 1e9, "annotation 7: a polygon with a point"),
    ("coco", (*SEGMENTATION, 0, 0), 1e300, "annotation 7: a polygon with a point"),
    ("coco", (*SEGMENTATION, 0, 0), INF, "annotation 7: a polygon"),
    ("coco", (*SEGMENTATION, 0, 0), NAN, "annotation 7: a polygon"),
    ("coco", (*SEGMENTATION, 0, 0), "five", "annotation 7: a polygon"),
    ("coco", SEGMENTATION, {"size": [10**6, 10**6], "counts": [10**12]}, "a mask of size"),
    ("coco", SEGMENTATION, {"size": [15, 20], "counts": [299]}, "cover 299 pixels of 20x15"),
    ("coco", SEGMENTATION, {"size": [15, 20], "counts": [-1, 301]}, "whole numbers of pixels"),
    ("coco", SEGMENTATION, {"size": [15, 20], "counts": [0.5, 299.5]}, "whole numbers"),
    ("coco", SEGMENTATION, {"size": [15, 20], "counts": "\0\xff"}, "not COCO's compressed runs"),
    ("coco", SEGMENTATION, {"size": [15, 20], "counts": "oooooooo0"}, "longer than any image"),
    ("coco", SEGMENTATION, {"size": [15, 20], "counts": "oo"}, "runs cover 0 pixels"),
    ("coco", SEGMENTATION, {"size": [15, 20]}, "a segmentation without counts"),
    ("coco", SEGMENTATION, {"size": ["x" * 10**5, 1], "counts": ""}, "a mask of size"),
    ("coco", (*RECORD, "height"), -1, "image 1 height"),
    ("coco", (*RECORD, "height"), 2**32, "image 1 height"),
    ("coco", (*RECORD, "file_name"), "", "image 1 file_name"),
    ("coco", (*RECORD, "file_name"), "a\0.png", "image 1 file_name"),
    ("coco", (*RECORD, "file_name"), "\ud800.png", "image 1 file_name"),
    ("coco", (*RECORD, "file_name"), "x" * 300, "image 1 file_name"),
    ("coco", (*RECORD, "file_name"), "../none.png", "image 1: .*leaves its folder"),
    ("coco", (*RECORD, "group"), ["a"], "image 1 group"),
    ("coco", ("categories", 0, "name"), "\ud800", "category 1 name"),
    ("coco", ("categories", 0, "name"), {}, "category 1 name"),
    ("coco", ("categories", 0), 3, "category number 1"),
    ("coco", ("images",), {}, "it needs the lists"),
    ("label-studio", (0, "data"), [], "task 7 data"),
    ("label-studio", (0, "data", "image"), {"a": 1}, "task 7: its data names no image"),
    ("label-studio", (0, "data", "image"), "../../../etc/passwd", "no such image .task 7"),
    ("label-studio", (0, "data", "image"), "/etc/passwd", "no such image .task 7"),
    ("label-studio", (0, "data", "image"), "a%00.png", "task 7"),
    ("label-studio", (0, "annotations"), "x", "task 7 annotations"),
    ("label-studio", (0, "annotations", 0), "x", "task 7 annotations"),
    ("label-studio", (*FOUND, "value"), [], "task 7 .*value"),
    ("label-studio", (*FOUND, "value", "brushlabels"), {"a": 1}, "task 7 .*brushlabels"),
    ("label-studio", (*FOUND, "value", "rle"), [], "task 7 .*a brush ends"),
    ("label-studio", (*FOUND, "value", "rle"), [255] * 99, "task 7 .*a brush of 4294967295 values"),
    ("label-studio", (*FOUND, "value", "rle"), BRUSH[:-3], "task 7 .*a brush ends"),
    ("label-studio", (*FOUND, "value", "rle", 3), True, "task 7 .*rle"),
    ("label-studio", (*FOUND, "value", "rle", 3), 256, "task 7 .*rle"),
    ("label-studio", (*FOUND, "original_width"), 2**31, "task 7.*listed as 2147483648x15"),
    ("label-studio", (*FOUND, "original_width"), INF, "task 7 .*original_width"),
    ("labelme", ("shapes",), {}, "is not a LabelMe file"),
    ("labelme", ("imageHeight",), 2**31, "is listed as 20x2147483648 pixels"),
    ("labelme", ("imageHeight",), 10**7, "is listed as 20x10000000 pixels"),
    ("labelme", ("imageHeight",), NAN, "imageHeight"),
    ("labelme", ("imagePath",), "", "should be a file name"),
    ("labelme", ("imagePath",), "a\ud800.png", "imagePath"),
    ("labelme", (*SHAPE, "label"), [], r"shapes\[0\].label"),
    ("labelme", (*SHAPE, "points"), {}, r"shapes\[0\].points"),
    ("labelme", (*SHAPE, "points", 0, 0), INF, r"shapes\[0\].points"),
    ("labelme", (*SHAPE, "points", 0, 0), 1e9, r"shapes\[0\]: a polygon with a point"),
    ("labelme", (*SHAPE, "points", 0), [5], r"shapes\[0\].points"),
    ("labelme", (*SHAPE, "shape_type"), "circle", r"shapes\[0\]: a circle of 3 points"),
    ("labelme", (*SHAPE, "group_id"), [1], r"shapes\[0\].group_id"),
    ("labelme", (*SHAPE,), {"label": "x", "shape_type": "mask", "points": [[0, 0]], "mask": ""},
     r"shapes\[0\]: a mask is not a PNG"),
    ("labelme", (*SHAPE,), {"label": "x", "shape_type": "mask", "points": [[0, 0]],
                            "mask": png(10**5, 10**5)}, r"shapes\[0\]: a mask of 100000x100000"),
    ("labelme", (*SHAPE,), {"label": "x", "shape_type": "mask", "points": [[0, 99]],
                            "mask": png(1, 1)}, r"shapes\[0\]: a mask lies outside"),
    ("png", ("images",), {"../a.png": GOOD}, "leaves its folder"),
    ("png", ("images",), {"/a.png": GOOD}, "leaves its folder"),
    ("png", ("images",), [], "is not a listing"),
    ("png", ("categories",), [["a"]], "categories"),
    ("png", (*LISTED, "labels"), [1], "a.png has label 1, but there are 1"),
    ("png", (*LISTED, "labels"), [-1], "labels"),
    ("png", (*LISTED, "labels"), [0] * 2**16, "labels"),
    ("png", (*LISTED, "labels"), [2**70], "labels"),
    ("png", (*LISTED, "height"), 10**6, "has not the size 20x1000000"),
]  # fmt: skip


def written(folder: Path, name: str, changed: Callable[[Any], Any]) -> Path:
    """A folder with an image and a label file of the format, whose content `changed` makes."""
    for place in ("a.png", "images/a.png"):
        write_png(folder / place, np.zeros((15, 20, 3), np.uint8))
    write_png(folder / "masks" / "a.png", np.ones((15, 20), np.uint8))
    file, content = FILES[name]
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(changed(deepcopy(content))), encoding="utf-8")
    return path


def put(place: Path_, value: Any) -> Callable[[Any], Any]:
    def changed(content: Any) -> Any:
        inner = content
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = value
        return content

    return changed


@pytest.mark.parametrize("name", FILES)
def test_the_file_that_is_attacked_is_good_as_it_is(tmp_path: Path, name: str) -> None:
    written(tmp_path, name, lambda content: content)
    dataset = FORMATS[name].read(tmp_path, None)
    assert [len(dataset.on(record)) for record in dataset.records] == [1]


@pytest.mark.parametrize(("name", "place", "value", "message"), HOSTILE)
def test_a_hostile_value_is_one_line_with_the_file_and_its_place(
    tmp_path: Path, name: str, place: Path_, value: Any, message: str
) -> None:
    written(tmp_path, name, put(place, value))
    with pytest.raises(DataError, match=message) as caught:
        FORMATS[name].read(tmp_path, None)
    text = str(caught.value)
    assert str(tmp_path) in text
    assert "\n" not in text
    assert len(text) < 1000


TEXTS = [b"", b"\xff", b"[", b"{}", b"null", b"9" * 5000, b"[" * 10**5, b'{"images": [', b"[1 2]",
         b'{"images": [], "annotations": [}, "categories": []}', b'{"a": 1, 2: 3}',
         b'[{"data": ' + b"9" * 5000 + b"}]",
         b'{"images": [1], "annotations": [], "categories": []}',
         b'{"shapes": []}', b'[] []']  # fmt: skip


@pytest.mark.parametrize("content", TEXTS)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_such_json_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    path = written(tmp_path, name, lambda content: content)
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        FORMATS[name].read(tmp_path, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value"), [(place, value) for name, place, value, _ in HOSTILE if name == "coco"]
)
def test_validate_names_hostile_values_and_mends_what_it_can(
    tmp_path: Path, place: Path_, value: Any
) -> None:
    path = written(tmp_path, "coco", put(place, value))
    for fix in (False, True):
        try:
            found = validate([path], fix=fix)
        except DataError:
            continue
        assert all("\n" not in line and line.isprintable() for line in found.left)
        json.loads(path.read_text())


def test_annotations_of_an_image_without_a_size_are_not_removed(tmp_path: Path) -> None:
    def changed(content: Any) -> Any:
        content["annotations"][0]["iscrowd"] = 1
        return put((*RECORD, "height"), "tall")(content)

    path = written(tmp_path, "coco", changed)
    assert validate([path], fix=True).by_kind == {"image without size or name": 1, "iscrowd": 1}
    assert len(json.loads(path.read_text())["annotations"]) == 1


@pytest.mark.parametrize("outside", [0.0, 30.0, 3000.0])
def test_polygons_slightly_outside_are_drawn_as_pycocotools_draws_them(outside: float) -> None:
    from pycocotools import mask as coco_mask

    ring = [-outside, -outside, 10 + outside, 2, 10, 10, 1, 10 + outside]
    expected = coco_mask.merge(coco_mask.frPyObjects([ring], 15, 20))
    assert segmentation_rle([ring], (15, 20)) == expected


@pytest.mark.parametrize("size", [(2**21, 1), (2**15, 2**15)])
def test_masks_on_images_that_nobody_can_read_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="which cannot be read"):
        segmentation_rle([[0, 0, 1, 0, 1, 1]], size)


def test_an_outline_that_would_take_gigabytes_is_refused() -> None:
    ring = [0, 0, 2**19, 2**19] * 50
    with pytest.raises(ValueError, match="an outline of"):
        segmentation_rle([ring], (2**9, 2**20))


def test_a_brush_is_refused_by_its_count_before_anything_is_allocated() -> None:
    with pytest.raises(ValueError, match="a brush of 4294967292 values on an image of 2x1"):
        decode_brush([255, 255, 255, 252, 57, 27, 254], 1, 2)


def test_a_brush_with_a_run_past_the_end_is_refused() -> None:
    bits = f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + "101" + f"{9 - 1:04b}" + "1" * 8
    bits += "0" * (-len(bits) % 8)
    data = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    with pytest.raises(ValueError, match="past the end of the image"):
        decode_brush(data, 1, 2)


def test_an_image_that_is_listed_as_huge_is_held_against_its_file(tmp_path: Path) -> None:
    def huge(content: Any) -> Any:
        return content | {"imageHeight": 20_000, "imageWidth": 20_000}

    written(tmp_path, "labelme", huge)
    with pytest.raises(DataError, match="is 20x15, but listed as 20000x20000"):
        FORMATS["labelme"].read(tmp_path, None)
