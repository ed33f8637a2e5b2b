"""The results of an annotation: which are regions, their labels, and their shapes in pixels."""

from __future__ import annotations

import base64
import binascii
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from pydantic import JsonValue

from pipeline.formats.coco_forms import TEXT_NUMBERS, as_numbers
from pipeline.formats.image_objects import SourceObject, clipped, patch_rle, polygon_rle
from pipeline.formats.label_studio_schema import (
    BITMASK,
    BRUSH,
    ELLIPSE,
    LABELS,
    POLYGON,
    RECTANGLE,
    Ellipse,
    Polygon,
    Rectangle,
    Row,
)
from pipeline.formats.labelme_schema import refuse_large_png
from pipeline.formats.rle_pack import decode_brush_patch
from pipeline.formats.source import SourceLog
from pipeline.formats.values import as_data_error, refuse_far
from pipeline.geometry.patches import Patch, tight
from pipeline.geometry.shapes import box_of_ring, draw_convex, draw_ellipse, rectangle_ring
from pipeline.io.read import checked

_NO_AREA = {"keypoint": "a point", "vector": "a line"}
_LABELS = "labels"  # a label of a region; also the end of the type of a region with its label
_KEYS = {"rle": "brush", "imageDataURL": "bitmask", "points": "polygon", "radiusX": "ellipse",
         "height": "rectangle"}  # fmt: skip  # a key that a shape has, the first that is there
_TEXTS = {"x", "y", "width", "height", "radiusX", "radiusY", "rotation", "points"}  # numbers
Size = tuple[int, int]  # (height, width) in pixels
Value = Mapping[str, object]


@dataclass(frozen=True)
class Region:
    """A region with a label. kind: the type of its result. shape: such as `ellipse`."""

    kind: str
    where: str
    shape: str
    value: Value
    label: str
    score: float | None


def count_kinds(results: Sequence[object]) -> dict[str, int]:
    """How many results of each type there are, for results that are not read. The label of a region
    does not count beside it."""
    rows = [row for row in results if isinstance(row, dict) and isinstance(row.get("type"), str)]
    regions = {str(row.get("id")) for row in rows if row["type"] != _LABELS}
    return Counter(
        row["type"] for row in rows if row["type"] != _LABELS or str(row.get("id")) not in regions
    )


def find_regions(rows: Sequence[Row], path: Path, where: str, log: SourceLog) -> Iterator[Region]:
    """The regions that have a label and a shape with an area; all other results are left out. A
    label is in the result of its region, or in a result of its own with the same id. Raises
    DataError for labels that are no names."""
    regions, loose = _grouped(rows, path, where, log)
    for each in regions:
        kind, labels = each.row["type"], list(dict.fromkeys([*each.labels, *loose[each.key]]))
        if not labels:
            log.leave_out(kind, "it has no label", each.where)
            continue
        if labels[1:]:
            log.leave_out("label", "a region has one label, its first", each.where, len(labels) - 1)
        value, score = each.row.get("value") or {}, each.row.get("score")
        yield Region(kind, each.where, shape_of(each.row), value, labels[0], score)


@dataclass(frozen=True)
class _Result:
    """A result with a shape. key: its id, or its number. labels: those of all results that are the
    same region, for each control of the labeling interface gives one."""

    row: Row
    key: str
    where: str
    labels: list[str]


def _grouped(
    rows: Sequence[Row], path: Path, where: str, log: SourceLog
) -> tuple[list[_Result], dict[str, list[str]]]:
    """The regions among the results, and the labels of results that are only a label, by the key of
    their region. Other results are left out."""
    shaped = {row.get("id") for row in rows if row["type"] != _LABELS and shape_of(row)}
    regions: dict[tuple[str, str], list[_Result]] = defaultdict(list)
    loose: dict[str, list[str]] = defaultdict(list)
    for number, row in enumerate(rows, start=1):
        key = row.get("id") or str(number)
        place, shape = f"{where} region {key}", shape_of(row)
        labels = _labels(row, path, place)
        if row["type"] == _LABELS and row.get("id") in shaped:
            loose[key] += labels
        elif not shape:
            reason = _NO_AREA.get(row["type"].removesuffix(_LABELS), "no region of the image")
            log.leave_out(row["type"], reason, place)
        else:
            known = regions[key, shape]
            same = [each for each in known if _outline(each.row) == _outline(row)]
            for each in same:
                each.labels.extend(labels)
            if not same:
                known.append(_Result(row, key, place, labels))
    return [each for group in regions.values() for each in group], loose


def draw_region(
    region: Region, label: int, size: Size, path: Path, log: SourceLog
) -> SourceObject | None:
    """A region in pixels; None for a polygon of two points, which is left out. Raises DataError."""
    source_object = SourceObject(kind=region.kind, where=region.where, label=label)
    where = f"{region.where} value"
    region = _with_numbers(region, log)
    with as_data_error(path, region.where, "export it again"):
        if region.shape == "rectangle":
            return _rectangle(source_object, checked(RECTANGLE, region.value, path, where), size)
        if region.shape == "ellipse":
            return _ellipse(source_object, checked(ELLIPSE, region.value, path, where), size)
        if region.shape == "polygon":
            return _polygon(source_object, checked(POLYGON, region.value, path, where), size, log)
        if region.shape == "brush":
            code = bytes(checked(BRUSH, region.value, path, where)["rle"])
            return replace(source_object, rle=patch_rle(decode_brush_patch(code, *size), *size))
        png = checked(BITMASK, region.value, path, where)["imageDataURL"]
        return replace(source_object, rle=patch_rle(_drawn_pixels(png, size), *size))


def _with_numbers(region: Region, log: SourceLog) -> Region:
    """A region whose numbers are text, as scripts write them, with numbers."""
    given = {key: value for key, value in region.value.items() if key in _TEXTS}
    better = {key: as_numbers(cast(JsonValue, value)) for key, value in given.items()}
    if better == given:
        return region
    log.note(f"regions with {TEXT_NUMBERS}: read as they are meant", region.where)
    return replace(region, value={**region.value, **better})


def shape_of(row: Row) -> str:
    """The shape of a result; "" for a point, a line, and what is no region. Where labels are a
    control of their own, their result has the shape too, and may be the only one."""
    name = row["type"].removesuffix(_LABELS)
    if name in _KEYS.values():
        return name
    value = row.get("value") or {}
    shapes = (shape for key, shape in _KEYS.items() if key in value)
    return next(shapes, "") if row["type"] == _LABELS else ""


def _labels(row: Row, path: Path, where: str) -> list[str]:
    """The labels that a result names. Raises DataError."""
    for key, names in (row.get("value") or {}).items():
        if key.endswith(_LABELS) and names:
            given = [names] if isinstance(names, str) else names
            return checked(LABELS, given, path, f"{where} value.{key}")
    return []


def _outline(row: Row) -> Value:
    """The value of a result without its labels."""
    return {k: v for k, v in (row.get("value") or {}).items() if not k.endswith(_LABELS)}


def _rectangle(source_object: SourceObject, value: Rectangle, size: Size) -> SourceObject:
    corner, sides = (
        _pixels((value["x"], value["y"]), size),
        _pixels((value["width"], value["height"]), size),
    )
    degrees = value.get("rotation") or 0.0
    if not degrees:
        return replace(source_object, box=(*corner, corner[0] + sides[0], corner[1] + sides[1]))
    ring = rectangle_ring(corner, sides, degrees, pivot=corner)
    if box := box_of_ring(ring):
        return replace(source_object, box=box)
    refuse_far(ring, *size)
    return replace(source_object, rle=patch_rle(draw_convex(ring, *size), *size), to="mask")


def _ellipse(source_object: SourceObject, value: Ellipse, size: Size) -> SourceObject:
    centre = _pixels((value["x"], value["y"]), size)
    radii = _pixels((value["radiusX"], value["radiusY"]), size)
    patch = draw_ellipse(centre, radii, value.get("rotation") or 0.0, *size)
    return replace(source_object, rle=patch_rle(patch, *size), to="mask")


def _polygon(
    source_object: SourceObject, value: Polygon, size: Size, log: SourceLog
) -> SourceObject | None:
    if len(value["points"]) < 3:
        log.leave_out(source_object.kind, "it has fewer than 3 points", source_object.where)
        return None
    points = np.array([_pixels(point, size) for point in value["points"]])
    to = "closed polygon" if value.get("closed") is False else clipped(points, size)
    return replace(source_object, rle=polygon_rle(points, *size), to=to)


def _pixels(point: tuple[float, float], size: Size) -> tuple[float, float]:
    """Percent of the width and of the height, in pixels."""
    return point[0] * size[1] / 100, point[1] * size[0] / 100


def _drawn_pixels(url: str, size: Size) -> Patch:
    """The pixels of a PNG, given as a data URL, that are not transparent. Raises ValueError."""
    try:
        png = base64.b64decode(url.partition("base64,")[2], validate=True)
    except binascii.Error as error:
        raise ValueError(f"a bitmask is not base64 ({error})") from error
    refuse_large_png(png, *size)
    try:
        pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape != (*size, 4):
        raise ValueError(f"a bitmask is not a PNG of {size[1]}x{size[0]} pixels with alpha")
    return tight(np.asarray(pixels[:, :, 3] > 0))
