"""One XML file of Pascal VOC: the image that it names, and the objects on it.

Box sides are pixels counted from 1, and both ends are inside (VOC2012 development kit, section
3.3). Points of a polygon are counted from 1 too, as supervision and Roboflow write them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.source import SourceLog
from pipeline.formats.values import as_data_error, child_text, number
from pipeline.geometry.polygons import Ring
from pipeline.geometry.shapes import box_of_ring, rectangle_ring
from pipeline.io.read import read_xml, shown_value

ROOT_TAG = "annotation"
TURNED = "turned box"
REMEDY = "correct or remove it"
FLAGS = ("difficult", "truncated", "occluded")
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_NO_POSE = {"", "Unspecified"}
_POINT = re.compile(r"x(\d{1,9})")

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class VocObject:
    """An object. row: its place in the file, from 1. kind: the element of its shape.

    box: x0, y0, x1, y1 in pixels, half-open; () without a bndbox. rings: its polygons (P, 2) xy, in
    pixels, a vertex on the centre of a pixel. is_swapped: the file has the corners the other way.
    score: in [0, 1], that scripts write for predictions; None without one.
    """

    row: int
    name: str
    kind: str
    box: Box | tuple[()] = ()
    rings: tuple[Ring, ...] = ()
    is_swapped: bool = False
    flags: frozenset[str] = frozenset()
    score: float | None = None


@dataclass(frozen=True)
class VocFile:
    """The content of one XML file.

    path: of the file. name: of the image; "" where the file gives none. size: (height, width); None
    where the file gives none that an image can have. count: objects in the file, with those that
    are left out. split: as this program writes it.
    """

    path: Path
    name: str
    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]
    count: int
    split: str


def read_voc_file(path: Path, log: SourceLog) -> VocFile | None:
    """Read an XML file; None for one of another program. log: takes faulty objects, and counts
    those without a shape. Raises DataError for a file that is no XML."""
    try:
        root = read_xml(path)
    except DataError as error:
        reason = f"is not Pascal VOC's XML: {error.reason}"
        raise DataError(path, reason, REMEDY) from error
    if root.tag != ROOT_TAG:
        return None
    entries = root.findall("object")
    with as_data_error(path, "", REMEDY):
        size = _size(root)
    return VocFile(
        path=path,
        name=(root.findtext("filename") or "").strip(),
        size=size,
        objects=tuple(_objects(path, entries, log)),
        count=len(entries),
        split=root.findtext("split") or root.findtext("part") or "",  # `part`: as 0.7 wrote it
    )


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """(height, width). None where a side is missing, empty, 0 or no whole number, as labelImg and
    scripts write a photo that they did not measure. Raises ValueError for what is no number."""
    sides = []
    for name in ("height", "width"):
        text = (root.findtext(f"size/{name}") or "").strip()
        value = number(text, f"size/{name}") if text else 0.0
        if value < 0:
            raise ValueError(f"size/{name} is {shown_value(text)}, which no image has")
        sides.append(value)
    if not all(side and side.is_integer() for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def _objects(path: Path, entries: list[ElementTree.Element], log: SourceLog) -> Iterator[VocObject]:
    for row, entry in enumerate(entries, start=1):
        where = f"{path.name} object {row}"
        try:
            with as_data_error(path, f"object {row}", REMEDY):
                each = replace(_object(row, entry), score=_score(entry))
        except DataError as error:
            log.object_fault("object", where, error)
            continue
        if parts := len(entry.findall("part")):
            log.leave_out("part", "parts of an object are not kept", where, parts)
        if (entry.findtext("pose") or "").strip() not in _NO_POSE:
            log.note("poses are not kept", where)
        if not each.box and not each.rings:
            log.leave_out("object", "has no bndbox", where)
            continue
        yield each


def _object(row: int, entry: ElementTree.Element) -> VocObject:
    """Raises ValueError for a faulty object."""
    name = child_text(entry, "name").strip()
    if not name:
        raise ValueError("it lacks name")
    flags = frozenset(flag for flag in FLAGS if _is_set(entry.findtext(flag)))
    rings = [_ring(polygon) for polygon in entry.findall("polygon")]
    rings = [ring for ring in rings if len(ring)]
    if rings:
        return VocObject(row, name, "polygon", rings=tuple(rings), flags=flags)
    if (turned := entry.find("robndbox")) is not None:
        return VocObject(row, name, "robndbox", rings=(_turned(turned),), flags=flags)
    if entry.find("bndbox") is None:
        return VocObject(row, name, "object", flags=flags)
    x0, y0, x1, y1 = (number(entry.findtext(f"bndbox/{side}"), side) for side in _SIDES)
    low, high = (min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1))
    # xmin is xmax + 1, and no more, where a box is rounded to no pixel
    if x0 == x1 + 1 or y0 == y1 + 1:
        return VocObject(row, name, "bndbox", (x0 - 1, y0 - 1, x0 - 1, y0 - 1), flags=flags)
    if degrees := _rotation(entry):
        return replace(_rotated(row, name, (low[0] - 1, low[1] - 1, *high), degrees), flags=flags)
    is_swapped = low != (x0, y0)
    return VocObject(row, name, "bndbox", (low[0] - 1, low[1] - 1, *high), (), is_swapped, flags)


def _rotation(entry: ElementTree.Element) -> float:
    """The degrees, clockwise, by which CVAT turns the box of an object; 0 for none. Raises
    ValueError."""
    for attribute in entry.iterfind("attributes/attribute"):
        if (attribute.findtext("name") or "").strip() == "rotation":
            return number(attribute.findtext("value"), "rotation") % 360
    return 0.0


def _rotated(row: int, name: str, box: Box, degrees: float) -> VocObject:
    """A box that is turned about its centre; after quarter turns it is a box again."""
    x0, y0, x1, y1 = box
    centre = ((x0 + x1) / 2, (y0 + y1) / 2)
    ring = rectangle_ring((x0, y0), (x1 - x0, y1 - y0), degrees, centre)
    if sides := box_of_ring(ring):
        return VocObject(row, name, "bndbox", (sides[0], sides[1], sides[2], sides[3]))
    return VocObject(row, name, TURNED, rings=(ring - 0.5,))


def _score(entry: ElementTree.Element) -> float | None:
    """The score or confidence of an object; None for another value, as a person's `high`."""
    for name in ("score", "confidence"):
        try:
            value = float(entry.findtext(name) or "nan")
        except ValueError:
            continue
        if 0 <= value <= 1:
            return value
    return None


def _is_set(text: str | None) -> bool:
    return (text or "").strip().lower() in {"1", "true", "yes"}


def _ring(polygon: ElementTree.Element) -> Ring:
    """The points of `<x1>..</x1><y1>..</y1><x2>..`, or of `<pt><x>..</x><y>..</y></pt>`. Raises
    ValueError."""
    pairs = [(pt.findtext("x"), pt.findtext("y")) for pt in polygon.findall("pt")]
    if not pairs:
        numbers = sorted(
            int(match[1]) for child in polygon if (match := _POINT.fullmatch(child.tag))
        )
        pairs = [(polygon.findtext(f"x{n}"), polygon.findtext(f"y{n}")) for n in numbers]
    points = [(number(x, "polygon x"), number(y, "polygon y")) for x, y in pairs]
    if points and len(points) < 3:
        raise ValueError(f"its polygon has {len(points)} points")
    return np.array(points, dtype=np.float64).reshape(-1, 2) - 1


def _turned(box: ElementTree.Element) -> Ring:
    """The corners of roLabelImg's box: its centre and sides in pixels, its angle in radians. Raises
    ValueError."""
    keys = ("cx", "cy", "w", "h", "angle")
    x, y, width, height, angle = (number(box.findtext(key), key) for key in keys)
    if width <= 0 or height <= 0:
        raise ValueError(f"its robndbox is {width:g}x{height:g}")
    corner, size = (x - width / 2, y - height / 2), (width, height)
    return rectangle_ring(corner, size, math.degrees(angle), (x, y))
