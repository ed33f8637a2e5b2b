"""The shapes in CVAT's XML that have an area: their numbers, and their pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.image_objects import (
    MASK_CLIPPED,
    SourceObject,
    clipped,
    patch_rle,
    polygon_rle,
)
from pipeline.formats.values import attribute, many_numbers, number, refuse_far
from pipeline.geometry.patches import Patch, paste, tight
from pipeline.geometry.shapes import box_of_ring, draw_convex, draw_ellipse, rectangle_ring

SIDES = ("xtl", "ytl", "xbr", "ybr")
_NUMBERS = {"box": SIDES, "ellipse": ("cx", "cy", "rx", "ry"),
            "mask": ("left", "top", "width", "height")}  # fmt: skip
_NO_AREA = {"polyline": "a line", "points": "points", "skeleton": "a skeleton",
            "cuboid": "a cuboid", "tag": "it marks the whole image"}  # fmt: skip
Size = tuple[int, int]  # (height, width) in pixels


@dataclass(frozen=True)
class Shape:
    """A shape, in pixels.

    numbers: of a polygon its points x, y, x, y, ...; else the four of `_NUMBERS`. rotation: of a
    box or an ellipse about its centre, in degrees clockwise. runs: of a mask, along the rows of its
    rectangle, background first.
    """

    kind: str
    numbers: NDArray[np.float64]
    rotation: float = 0.0
    runs: NDArray[np.int64] | None = None


def why_no_area(kind: str) -> str:
    """Why a shape is left out; "" for one that has an area."""
    if kind in _NUMBERS or kind == "polygon":
        return ""
    return _NO_AREA.get(kind, "an unknown shape")


def parse_shape(node: ElementTree.Element) -> Shape:
    """The numbers of a shape that has an area. Raises ValueError."""
    kind = node.tag
    if kind == "polygon":
        text = attribute(node, "points").strip().rstrip(";")
        if any(point.count(",") != 1 for point in text.split(";")):
            raise ValueError("its points are not pairs")
        return Shape(kind, many_numbers(text.replace(";", ",").split(","), "a point"))
    numbers = np.array([number(node.get(key), key) for key in _NUMBERS[kind]])
    if kind != "mask":
        return Shape(kind, numbers, number(node.get("rotation") or "0", "rotation"))
    try:
        runs = np.array(attribute(node, "rle").split(","), dtype=np.int64)
    except (ValueError, OverflowError) as error:
        if "lacks" in str(error):
            raise
        raise ValueError("the runs of its rle are not whole numbers") from None
    return Shape(kind, numbers, runs=runs)


def draw_shape(shape: Shape, source_object: SourceObject, size: Size) -> SourceObject:
    """An object with its box or its mask on an image. Raises ValueError."""
    if shape.kind == "mask":
        rle = patch_rle(_draw_runs(shape, *size), *size)
        left, top, across, down = shape.numbers.tolist()
        is_inside = min(left, top) >= 0 and left + across <= size[1] and top + down <= size[0]
        return replace(source_object, rle=rle, to="" if is_inside else MASK_CLIPPED)
    if shape.kind == "polygon":
        points = shape.numbers.reshape(-1, 2)
        return replace(source_object, rle=polygon_rle(points, *size), to=clipped(points, size))
    first, second, third, fourth = shape.numbers.tolist()
    if shape.kind == "ellipse":
        patch = draw_ellipse((first, second), (third, fourth), shape.rotation, *size)
        return replace(source_object, rle=patch_rle(patch, *size), to="mask")
    if not shape.rotation:
        return replace(source_object, box=(first, second, third, fourth))
    centre = (first + third) / 2, (second + fourth) / 2
    sides = third - first, fourth - second
    ring = rectangle_ring((first, second), sides, shape.rotation, pivot=centre)
    if box := box_of_ring(ring):
        return replace(source_object, box=box)
    refuse_far(ring, *size)
    return replace(source_object, rle=patch_rle(draw_convex(ring, *size), *size), to="mask")


def _draw_runs(shape: Shape, height: int, width: int) -> Patch:
    """The pixels of a mask."""
    left, top, across, down = (int(value) for value in shape.numbers.tolist())
    if across < 1 or down < 1 or across * down > height * width:
        raise ValueError(f"a mask of {across}x{down} pixels on an image of {width}x{height}")
    if not (-across < left < width and -down < top < height):
        raise ValueError(f"a mask at ({left}, {top}) is outside an image of {width}x{height}")
    runs = np.zeros(0, np.int64) if shape.runs is None else shape.runs
    if runs.min() < 0 or runs.max() > across * down or runs.sum() != across * down:
        raise ValueError(f"its runs do not add up to {across}x{down} pixels")
    is_drawn = np.arange(len(runs)) % 2 == 1
    pixels = np.repeat(is_drawn, runs).reshape(down, across)
    return tight(paste(Patch(left, top, pixels), height, width))
