"""The faults of one annotation of a COCO file, and their fixes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeGuard, cast

from pydantic import JsonValue

from pipeline.formats.coco_forms import FIVE, FLAT, has_five, is_line, key_in, usual_form
from pipeline.formats.coco_masks import segmentation_rle
from pipeline.formats.coco_schema import JsonKey, Key
from pipeline.formats.validation.coco_swapped import is_swapped, meant_by
from pipeline.formats.validation.findings import REJECTED, Finding
from pipeline.geometry.masks import Rle, area, bounding_boxes
from pipeline.io.read import shown_value

Row = dict[str, JsonValue]
_SLACK = 0.5  # pixels that a box may reach outside the image, by rounding
_WHOLE = 2**63  # whole numbers are smaller
_SHORT = 80  # characters


class AddFinding(Protocol):
    """Record a fault. fix: what `--fix` does to it; empty where no change is safe."""

    def __call__(self, kind: str, text: str, fix: str = "") -> None: ...


def check_annotation(
    path: Path,
    row: Row,
    sizes: Mapping[JsonKey, tuple[int, int] | None],
    categories: Mapping[JsonKey, JsonValue],
) -> tuple[list[Finding], bool]:
    """The faults of one annotation, which is fixed in place, and whether it can be kept.

    sizes: (height, width) of each image by id; None where the file has no usable size. categories:
    name by id.
    """
    where = f"annotation {shown(row.get('id'))}"
    findings: list[Finding] = []

    def add(kind: str, text: str, fix: str = "") -> None:
        findings.append(Finding(kind, path, where, text, fix))

    if not _check_keys(row, sizes, categories, add):
        return findings, False
    _check_forms(row, add)
    if row.get("iscrowd") == 1 and not isinstance(row.get("segmentation"), dict):  # else a crowd
        text = "iscrowd is 1 without an RLE, so COCOeval ignores the object and its detections"
        add("iscrowd", text, "set to 0")
        row["iscrowd"] = 0
    size = sizes[key_of(row["image_id"])]
    # the fault of an image without a size comes first, and removes no annotation
    if size is None or _is_left_as_it_is(row, add):
        return findings, True
    if _check_swapped(row, size, add):
        rle = _check_segmentation(row, size, add)
        if _check_box(row, size, rle, add):
            return findings, True
    if "keypoints" in row:  # other tools read these
        return [replace(each, fix="" if each.fix == REJECTED else each.fix)
                for each in findings], True  # fmt: skip
    return [replace(each, fix=REJECTED) for each in findings], False


def _check_keys(
    row: Row, sizes: Collection[JsonKey], categories: Collection[JsonKey], add: AddFinding
) -> bool:
    """Whether the file has the image and the category of an annotation. A number that is text on
    one side only is set to the other's."""
    for name, ids in (("image_id", sizes), ("category_id", categories)):
        key = row.get(name)
        if not is_scalar(key) or key not in ids:
            text = f"{name} {shown(key)} is not in the file"
            owner = key_in(key, cast(Collection[Key], ids)) if isinstance(key, (int, str)) else None
            if owner is None:
                add("dangling reference", text, REJECTED)
                return False
            add("id of another type", text, f"set to {owner!r}, which is")
            row[name] = owner
    return True


def _is_left_as_it_is(row: Row, add: AddFinding) -> bool:
    """Whether a row has a form that other tools read, and no mending is safe."""
    if is_line(row):
        add("line", "its outline has two points and no area, so import leaves it out")
        return True
    if has_five(row.get("bbox")):  # tools for turned boxes read it
        add("box of 5 numbers", f"bbox {FIVE}")
        return True
    return False


def _check_forms(row: Row, add: AddFinding) -> None:
    """Bring numbers and outlines into the form that COCO has."""
    better, kinds = usual_form(row)
    for kind in kinds:
        name = "flat outline" if kind == FLAT else "unusual form"
        add(name, f"has {kind}", "written as COCO has it")
    row.update(better)
    for key in [key for key, value in row.items() if _is_no_number(value) and key != "area"]:
        add("not a number", f"{shown(key)} is {row[key]}", "removed")
        del row[key]


def _is_no_number(value: JsonValue) -> bool:
    """Whether a value is NaN or infinite, which JSON does not have."""
    return isinstance(value, float) and not math.isfinite(value)


def _check_swapped(row: Row, size: tuple[int, int], add: AddFinding) -> bool:
    """Fix an RLE whose size is (width, height); returns whether the annotation can be kept."""
    segmentation, box = row.get("segmentation"), row.get("bbox")
    if not isinstance(segmentation, dict) or not is_swapped(segmentation, size):
        return True
    text = f"a mask of size {[*size[::-1]]} on an image of size {[*size]}"
    try:
        meant = meant_by(segmentation, box, size) if _is_box(box) else None
    except ValueError:  # a fault of its own, which `_check_segmentation` names
        return True
    if meant is None:
        add("mask of swapped size", f"{text}; its box does not say what it means", REJECTED)
        return False
    rle, fix = meant
    add("mask of swapped size", text, fix)
    row["segmentation"] = {"size": [*size], "counts": rle["counts"].decode()}
    return True


def _check_segmentation(row: Row, size: tuple[int, int], add: AddFinding) -> Rle | None:
    """The mask of an annotation; None without one that can be read."""
    segmentation = row.get("segmentation")
    if not segmentation:
        return None
    if isinstance(segmentation, list) and not _check_rings(row, segmentation, size, add):
        return None
    try:
        rle = segmentation_rle(row["segmentation"], size)
    except ValueError as error:
        add("unreadable mask", f"{error}")
        return None
    pixels = area(rle)
    if pixels == 0:
        add("zero area", "its mask has no pixel")
        return None
    stated = row.get("area", pixels)
    if not is_number(stated):
        text = f"area is {shown(stated)}, but the mask has {pixels}"
        add("area differs", text, f"set to {pixels}")
        row["area"] = pixels
    elif abs(stated - pixels) > max(1.0, 0.1 * pixels):
        add("area differs", f"area {stated:g}, but the mask has {pixels}", f"set to {pixels}")
        row["area"] = pixels
    return rle


def _check_rings(row: Row, rings: list[JsonValue], size: tuple[int, int], add: AddFinding) -> bool:
    """Fix the polygons of an annotation; returns whether any is left."""
    if any(not isinstance(ring, list) or not all(map(is_number, ring)) for ring in rings):
        add("unreadable mask", "its polygons are not lists of numbers")
        return False
    if any(isinstance(ring, list) and len(ring) > 6 and len(ring) % 2 for ring in rings):
        add("polygon of odd length", "a polygon has an x without a y", "that number cut off")
        rings = [ring[: len(ring) // 2 * 2] if isinstance(ring, list) else ring for ring in rings]
        row["segmentation"] = rings
    usable = [ring for ring in rings if _is_ring(ring)]
    if len(usable) < len(rings):
        text = "a polygon has fewer than 3 points, or no pairs of numbers"
        add("polygon under 3 points", text, "that polygon removed")
        row["segmentation"] = [[*ring] for ring in usable]
    if not usable:
        return False
    height, width = size
    outside = max(
        max(-min(ring), max(ring[0::2]) - width, max(ring[1::2]) - height) for ring in usable
    )
    if outside > _SLACK:
        add("polygon outside the image", f"by {outside:g} pixels", "clipped to the image")
        row["segmentation"] = [
            [min(max(v, 0), (width, height)[i % 2]) for i, v in enumerate(ring)] for ring in usable
        ]
    return True


def _is_ring(ring: JsonValue) -> TypeGuard[list[float]]:
    return (
        isinstance(ring, list)
        and len(ring) >= 6
        and len(ring) % 2 == 0
        and all(is_number(value) for value in ring)
    )


def _check_box(row: Row, size: tuple[int, int], rle: Rle | None, add: AddFinding) -> bool:
    """Fix the box of an annotation; returns whether the annotation can be kept."""
    height, width = size
    stated = row.get("bbox")
    if _is_box(stated):
        box = stated
    elif rle is None:
        add("no box", f"bbox is {shown(stated)}, and there is no mask", REJECTED)
        return False
    else:
        add("no box", f"bbox is {shown(stated)}", "taken from the mask")
        box = _box_of(rle)
        row["bbox"] = [*box]
    x, y, w, h = box
    if (w < 0 or h < 0) and w and h and rle is None:
        x, y, w, h = box = [min(x, x + w), min(y, y + h), abs(w), abs(h)]
        add("corners swapped", f"bbox {stated} has a side under 0", "swapped back")
        row["bbox"] = [*box]
    if w <= 0 or h <= 0:
        if rle is None:
            add("zero area", f"bbox {box} covers nothing", REJECTED)
            return False
        add("zero area", f"bbox {box} covers nothing", "taken from the mask")
        x, y, w, h = box = _box_of(rle)
        row["bbox"] = [*box]
    outside = max(-x, -y, x + w - width, y + h - height)
    if outside > _SLACK:
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
        if x1 <= x0 or y1 <= y0:
            add("box outside the image", f"bbox {box} is wholly outside", REJECTED)
            return False
        text = f"bbox {box} by {float(outside):g} pixels"
        add("box outside the image", text, "clipped to the image")
        row["bbox"] = [x0, y0, x1 - x0, y1 - y0]
        if rle is None:
            row["area"] = (x1 - x0) * (y1 - y0)
    elif rle is not None and _is_apart(box, _box_of(rle)):
        add("box beside its mask", f"bbox {box} does not touch its mask", "taken from the mask")
        row["bbox"] = [*_box_of(rle)]
    elif rle is None and not (is_number(pixels := row.get("area", 1)) and pixels > 0):
        add("zero area", f"area is {shown(pixels)}", "taken from the box")
        row["area"] = w * h
    return True


def _is_box(box: JsonValue) -> TypeGuard[list[float]]:
    return isinstance(box, list) and len(box) == 4 and all(is_number(value) for value in box)


def _box_of(rle: Rle) -> list[float]:
    """The box of a mask as COCO writes it: x, y, width, height."""
    x0, y0, x1, y1 = bounding_boxes([rle])[0].tolist()
    return [x0, y0, x1 - x0, y1 - y0]


def _is_apart(one: list[float], other: list[float]) -> bool:
    """Whether two boxes (x, y, width, height) have no pixel in common."""
    return any(
        min(one[side] + one[side + 2], other[side] + other[side + 2]) <= max(one[side], other[side])
        for side in (0, 1)
    )


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of JSON is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e300 if isinstance(value, int) else math.isfinite(value)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value of JSON is a whole number of 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and -_WHOLE <= value < _WHOLE


def is_scalar(value: object) -> bool:
    """Whether a value of JSON can be an id: it is not a list or an object."""
    return value is None or isinstance(value, (str, int, float))


def key_of(value: JsonValue) -> JsonKey:
    """A value of JSON as a key of a dictionary."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    return "no scalar", shown_value(value)


def shown(value: object) -> str:
    """A value for a message, shortened if it is long."""
    text = str(value)
    return text if len(text) <= _SHORT else shown_value(value)
