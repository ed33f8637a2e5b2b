"""Faults of a COCO file that other tools meet in silence, and the mending of those that is safe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.formats.coco import segmentation_rle
from pipeline.formats.findings import Finding, check_image, colliding_stems, repeated
from pipeline.geometry.masks import Rle, area, bounding_boxes
from pipeline.io.read import read_json
from pipeline.progress import track

Row = dict[str, Any]
_SLACK = 0.5  # pixels that a box may stand out, as rounding makes it


def check_coco(path: Path, images: Path | None = None) -> tuple[list[Finding], dict[str, Any]]:
    """Every fault of a COCO instances file, and its content with all that is safe mended.

    images: the folder of its images; without it, image files are not looked at. Raises DataError
    for a file that is not COCO at all.
    """
    raw = read_json(path)
    keys = ("images", "annotations", "categories")
    if not isinstance(raw, dict) or not all(_is_list_of_rows(raw.get(key)) for key in keys):
        raise DataError(path, "is not COCO instances JSON", f"it needs the lists {', '.join(keys)}")
    findings = [*_check_categories(path, raw["categories"]), *_check_images(path, raw, images)]
    sizes = {
        entry["id"]: (entry["height"], entry["width"])
        for entry in raw["images"]
        if {"id", "height", "width"} <= entry.keys()
    }
    categories = {entry.get("id") for entry in raw["categories"]}
    kept: list[Row] = []
    for row in track(raw["annotations"], "check"):
        mended = dict(row)
        found, keep = _check_annotation(path, mended, sizes, categories)
        findings += found
        if keep:
            kept.append(mended)
    findings += _check_ids(path, raw["annotations"])
    if any(finding.kind in {"duplicate id", "id 0"} and finding.mend for finding in findings):
        kept = [{**row, "id": number} for number, row in enumerate(kept, start=1)]
    return findings, {**raw, "annotations": kept}


def _check_categories(path: Path, categories: list[Row]) -> Iterator[Finding]:
    for number, entry in enumerate(categories, start=1):
        if not isinstance(entry.get("id"), int) or not entry.get("name"):
            yield Finding("category without id or name", path, f"category {number}", "lacks a key")
        elif entry["id"] < 1:
            text = "has id 0, which many tools take for background"
            yield Finding("id 0", path, f"category {entry['name']}", text)
    for value in repeated([entry.get("id") for entry in categories]):
        yield Finding("duplicate id", path, f"category {value}", "two categories have this id")
    for value in repeated([entry.get("name") for entry in categories]):
        text = "two categories have this name"
        yield Finding("categories disagree", path, f"category {value}", text)


def _check_images(path: Path, raw: Mapping[str, Any], images: Path | None) -> Iterator[Finding]:
    entries = raw["images"]
    for value in repeated([entry.get("id") for entry in entries]):
        yield Finding("duplicate id", path, f"image {value}", "two images have this id")
    names = [str(entry.get("file_name", "")) for entry in entries]
    for name in repeated(names):
        yield Finding("duplicate image", path, f"image {name}", "is listed twice")
    yield from colliding_stems(dict.fromkeys(names), path)
    for entry, name in zip(track(entries, "check images"), names, strict=True):
        where = f"image {entry.get('id')}"
        numbers = [entry.get(key) for key in ("id", "height", "width")]
        if not name or not all(isinstance(number, int) for number in numbers):
            text = "lacks file_name, id, height or width, or one is no number"
            yield Finding("image without size or name", path, where, text)
        elif Path(name).is_absolute() or "\\" in name:
            text = f"file_name {name} holds on one machine only"
            yield Finding("file_name not relative", path, where, text)
        elif images is not None:
            size = entry["height"], entry["width"]
            yield from check_image(images / name, where, path, size)


def _check_ids(path: Path, rows: list[Row]) -> Iterator[Finding]:
    for value in repeated([row.get("id") for row in rows]):
        text = "two annotations have this id; COCO's tools keep the last"
        yield Finding("duplicate id", path, f"annotation {value}", text, "numbered anew from 1")
    for row in rows:
        if row.get("id") == 0:
            text = "COCOeval takes id 0 for no match"
            yield Finding("id 0", path, "annotation 0", text, "numbered anew from 1")
        elif not isinstance(row.get("id"), int):
            text = "has no whole number as id"
            yield Finding("id 0", path, f"annotation {row.get('id')}", text, "numbered anew from 1")


def _check_annotation(
    path: Path, row: Row, sizes: Mapping[Any, tuple[int, int]], categories: set[Any]
) -> tuple[list[Finding], bool]:
    """The faults of one annotation, which is mended in place, and whether it can be kept."""
    where = f"annotation {row.get('id')}"
    findings: list[Finding] = []

    def note(kind: str, text: str, mend: str = "") -> None:
        findings.append(Finding(kind, path, where, text, mend))

    for key, known in (("image_id", sizes), ("category_id", categories)):
        if row.get(key) not in known:
            note("dangling reference", f"{key} {row.get(key)} is not in the file", "removed")
            return findings, False
    if row.get("iscrowd") == 1:
        text = "iscrowd is 1, so COCOeval ignores it and what finds it"
        note("iscrowd", text, "set to 0")
        row["iscrowd"] = 0
    size = sizes[row["image_id"]]
    rle = _check_segmentation(row, size, note)
    return findings, _check_box(row, size, rle, note)


def _check_segmentation(row: Row, size: tuple[int, int], note: Callable[..., None]) -> Rle | None:
    """The mask of an annotation, where it has one that can be read."""
    segmentation = row.get("segmentation")
    if not segmentation:
        return None
    if isinstance(segmentation, list):
        usable = [ring for ring in segmentation if _is_ring(ring)]
        if len(usable) < len(segmentation):
            text = "a polygon has fewer than 3 points, or no pairs of numbers"
            note("polygon under 3 points", text, "that polygon removed")
            row["segmentation"] = usable
        if not usable:
            return None
        height, width = size
        outside = max(
            max(-min(ring), max(ring[0::2]) - width, max(ring[1::2]) - height) for ring in usable
        )
        if outside > _SLACK:
            note("polygon outside the image", f"by {outside:g} pixels", "cut to the image")
            row["segmentation"] = [
                [min(max(v, 0), (width, height)[i % 2]) for i, v in enumerate(ring)]
                for ring in usable
            ]
    try:
        rle = segmentation_rle(row["segmentation"], size)
        bounding_boxes([rle])
        pixels = area(rle)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        note("unreadable mask", f"{error}")
        return None
    if pixels == 0:
        note("zero area", "its mask has no pixel")
        return None
    if abs(float(row.get("area", pixels)) - pixels) > max(1.0, 0.1 * pixels):
        note("area differs", f"area {row['area']:g}, but the mask has {pixels}", f"set to {pixels}")
        row["area"] = pixels
    return rle


def _is_ring(ring: Any) -> bool:
    return (
        isinstance(ring, list)
        and len(ring) >= 6
        and len(ring) % 2 == 0
        and all(isinstance(value, (int, float)) and math.isfinite(value) for value in ring)
    )


def _check_box(row: Row, size: tuple[int, int], rle: Rle | None, note: Callable[..., None]) -> bool:
    height, width = size
    box = row.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(_is_number(value) for value in box)):
        if rle is None:
            note("no box", f"bbox is {box}, and there is no mask", "removed")
            return False
        note("no box", f"bbox is {box}", "taken from the mask")
        box = row["bbox"] = _box_of(rle)
    x, y, w, h = box
    if w <= 0 or h <= 0:
        if rle is None:
            note("zero area", f"bbox {box} covers nothing", "removed")
            return False
        note("zero area", f"bbox {box} covers nothing", "taken from the mask")
        x, y, w, h = row["bbox"] = _box_of(rle)
    outside = max(-x, -y, x + w - width, y + h - height)
    if outside > _SLACK:
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
        if x1 <= x0 or y1 <= y0:
            note("box outside the image", f"bbox {box} is wholly outside", "removed")
            return False
        note("box outside the image", f"bbox {box} by {outside:g} pixels", "cut to the image")
        row["bbox"] = [x0, y0, x1 - x0, y1 - y0]
        if rle is None:
            row["area"] = (x1 - x0) * (y1 - y0)
    elif rle is None and float(row.get("area", 1)) <= 0:
        note("zero area", f"area is {row['area']}", "taken from the box")
        row["area"] = w * h
    return True


def _is_list_of_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _box_of(rle: Rle) -> list[float]:
    x0, y0, x1, y1 = bounding_boxes([rle])[0].tolist()
    return [x0, y0, x1 - x0, y1 - y0]
