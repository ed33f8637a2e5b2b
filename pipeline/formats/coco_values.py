"""Outlines and boxes of COCO annotations that scripts wrote as JSON text, or with points and
corners as mappings, in the lists that COCO has."""

from __future__ import annotations

import json
import re

from pydantic import JsonValue

TEXT = "an outline or a box as text"
MAPPED = "an outline or a box with names for its numbers"
_DEEPEST = 5  # brackets around the numbers of an outline
_SIDES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
_CORNERS = (
    ("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("x0", "y0", "x1", "y1"),
    ("left", "top", "right", "bottom"),
)  # fmt: skip
_GAP = re.compile(r"[\s,;]+")
_FOUR = re.compile(r"[-+\d.eE]+([\s,;]+[-+\d.eE]+){3}")  # numbers; an outline may be runs
_POINTS = (("x", "y"), ("all_points_x", "all_points_y"))


def in_lists(name: str, value: JsonValue) -> tuple[JsonValue, list[str]]:
    """The value of a key (`bbox` or `segmentation`) without text and mappings, and what they were.
    A value whose meaning is not certain stays as it is, and so does an RLE."""
    kinds = []
    if name == "bbox" and isinstance(value, str) and _FOUR.fullmatch(value.strip()):
        return [*_GAP.split(value.strip())], [TEXT]
    if isinstance(value, str) and value.strip()[:1] in {"[", "{"}:
        value, kinds = _parsed(value), [TEXT]
        if isinstance(value, str):
            return value, []
    better = _box(value) if name == "bbox" else _outline(value, _DEEPEST)
    return better, kinds if better == value else [*kinds, MAPPED]


def _parsed(text: str) -> JsonValue:
    """The list or mapping of a JSON text; else the text."""
    try:
        value: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value


def _box(value: JsonValue) -> JsonValue:
    """A box as x, y, width and height."""
    if not isinstance(value, dict):
        return value
    value = _in_small_letters(value)
    for names in _SIDES:
        if value.keys() == {*names}:
            return [value[name] for name in names]
    for names in _CORNERS:
        if value.keys() == {*names}:
            return _of_corners([value[name] for name in names]) or value
    return _numbered(value)


def _of_corners(corners: list[JsonValue]) -> list[JsonValue]:
    """x, y, width and height of x0, y0, x1, y1; nothing of what are no numbers."""
    try:
        x0, y0, x1, y1 = (float(side) for side in corners if isinstance(side, (int, float, str)))
    except (ValueError, OverflowError):
        return []
    return [x0, y0, x1 - x0, y1 - y0]


def _outline(value: JsonValue, deep: int) -> JsonValue:
    """Lists in place of mappings: of a point, of all x and all y, or of entries by number."""
    if not deep:
        return value
    if isinstance(value, list):
        return [_outline(each, deep - 1) if isinstance(each, (list, dict)) else each
                for each in value]  # fmt: skip
    if not isinstance(value, dict):
        return value
    value = _in_small_letters(value)
    if value.keys() == {"points"} and isinstance(value["points"], (list, dict)):
        return _outline(value["points"], deep - 1)
    for names in _POINTS:
        if value.keys() == {*names}:
            return _point_or_ring(value[names[0]], value[names[1]], value)
    better = _numbered(value)
    return _outline(better, deep) if isinstance(better, list) else value


def _in_small_letters(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The mapping with its names in small letters, unless two of them would be equal."""
    small = {name.lower(): each for name, each in value.items()}
    return small if len(small) == len(value) else value


def _point_or_ring(x: JsonValue, y: JsonValue, value: JsonValue) -> JsonValue:
    """A point, or the points of a ring from the lists of their x and y."""
    if not isinstance(x, list) and not isinstance(y, list):
        return [x, y]
    if isinstance(x, list) and isinstance(y, list) and len(x) == len(y):
        return [[one, other] for one, other in zip(x, y, strict=True)]
    return value


def _numbered(value: dict[str, JsonValue]) -> JsonValue:
    """The entries of a mapping whose keys are 0, 1, 2 and so on; another mapping as it is."""
    if not value or value.keys() != {str(number) for number in range(len(value))}:
        return value
    return [value[str(number)] for number in range(len(value))]
