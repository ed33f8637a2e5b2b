"""Annotations as tools and people write them, in the form that COCO has: numbers that are text,
outlines as a flat list, as points, with a bracket too many, or with a stray ring first, and boxes
of five numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import TypeGuard

from pydantic import JsonValue

from pipeline.formats.coco_schema import Key
from pipeline.formats.coco_values import MAPPED, in_lists

TEXT_NUMBERS = "numbers that are text"
FLAT = "one flat outline in place of a list of outlines"
POINTS = "an outline as a list of points"
NESTED = "an outline with brackets too many"
LISTED = "an RLE in a list"
FIFTH = "a box with its score or angle as fifth number"
OF_OUTLINE = "a box of five numbers, in place of which that of the outline is taken"
FIVE = "has 5 numbers: the fifth may be an angle or a score"
STRAY = "a stray ring of fewer than 3 points"
_DEEPEST = 4  # brackets around the numbers of an outline
_NUMBERS = ("bbox", "segmentation", "score", "area", "iscrowd")


def usual_form(row: dict[str, JsonValue]) -> tuple[dict[str, JsonValue], list[str]]:
    """An annotation in the form that COCO has, and what is different in the one that is given."""
    changed: dict[str, JsonValue] = {}
    forms: list[str] = []
    for name in ("bbox", "segmentation"):
        better, kinds = in_lists(name, row.get(name))
        if kinds:
            changed[name] = better
            forms += [kind for kind in kinds if kind not in forms]
    for name in _NUMBERS:
        value = changed.get(name, row.get(name))
        if isinstance(value, (str, list)) and (better := as_numbers(value)) != value:
            changed[name] = better
            forms += [TEXT_NUMBERS] if TEXT_NUMBERS not in forms else []
    forms += _four_numbers(row, changed)
    outline = changed.get("segmentation", row.get("segmentation"))
    if isinstance(outline, list) and len(outline) == 1 and isinstance(outline[0], dict):
        changed["segmentation"] = outline[0]
        forms.append(LISTED)
    elif isinstance(outline, list) and outline:
        rings, kinds = _rings(outline)
        if kinds:
            changed["segmentation"] = [*rings]
            forms += [kind for kind in kinds if kind != POINTS or MAPPED not in forms]
    return {**row, **changed} if changed else row, forms


def _four_numbers(row: dict[str, JsonValue], changed: dict[str, JsonValue]) -> list[str]:
    """Cut the fifth number of a box off where it is known, or not needed: it is the score of the
    row, its box is turned by it as `attributes` say, or its outline has the place. What it was."""
    box = changed.get("bbox", row.get("bbox"))
    if not has_five(box):
        return []
    if row.get("segmentation"):
        changed["bbox"] = None
        return [OF_OUTLINE]
    attributes = row.get("attributes")
    turned = attributes.get("rotation") if isinstance(attributes, dict) else None
    known = (turned, changed.get("score", row.get("score")))
    if any(_is_number(each) and each == box[4] for each in known):
        changed["bbox"] = [*box[:4]]
        return [FIFTH]
    return []


def has_five(box: JsonValue) -> TypeGuard[list[float]]:
    """Whether a box has five numbers: the last may be an angle, and then the first two its centre,
    or a score."""
    return isinstance(box, list) and len(box) == 5 and all(map(_is_number, box))


def is_line(row: Mapping[str, JsonValue]) -> bool:
    """Whether an outline has two points or one, and its row says that it has no area: FiftyOne and
    others write lines so. With an area, the two points may be corners."""
    rings, area = row.get("segmentation"), row.get("area")
    if not isinstance(rings, list) or not rings or area != 0 or isinstance(area, bool):
        return False
    return any(rings) and all(isinstance(ring, list) and len(ring) in {0, 2, 4} for ring in rings)


def key_in(key: Key, known: Collection[Key]) -> Key | None:
    """An id as the file lists it: some tools write a number in one place, and the same number as
    text in another. None for one that is not listed."""
    if key in known:
        return key
    try:
        other: Key = int(key) if isinstance(key, str) else str(key)
    except ValueError:
        return None
    return other if str(other) == str(key) and other in known else None


def as_numbers(value: JsonValue, deep: int = _DEEPEST) -> JsonValue:
    """Text that is a finite number as that number, in lists too. Anything else stays."""
    if isinstance(value, list) and deep:
        return [as_numbers(each, deep - 1) for each in value]
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    if not math.isfinite(number):
        return value
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _rings(value: list[JsonValue], deep: int = _DEEPEST) -> tuple[list[JsonValue], list[str]]:
    """The rings of an outline, each a list of numbers, and what is unusual. What is no outline
    stays as it is."""
    if all(map(_is_number, value)):
        return [value], [FLAT]
    lists = [each for each in value if isinstance(each, list)]
    if len(lists) < len(value) or not deep:
        return value, []
    if len(lists) >= 3 and all(len(each) == 2 and all(map(_is_number, each)) for each in lists):
        return [list(chain.from_iterable(lists))], [POINTS]
    if all(all(map(_is_number, each)) for each in lists):
        whole = [each for each in lists if len(each) not in {2, 4}]
        is_stray = len(lists[0]) in {2, 4} and any(len(each) >= 6 for each in whole)
        return ([*whole], [STRAY]) if is_stray else (value, [])
    inner = [_rings(each, deep - 1) for each in lists if each]
    kinds = {kind for _, forms in inner for kind in forms} - {FLAT}
    return list(chain.from_iterable(rings for rings, _ in inner)), sorted(kinds) or [NESTED]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def note_forms(kinds: Sequence[str], where: str, note: Callable[[str, str], None]) -> None:
    """Call `note` with a sentence for each form but the flat outline, which many tools write."""
    for kind in kinds:
        if kind != FLAT:
            note(f"annotations with {kind}: read as they are meant", where)
