"""COCO's three types of segmentation as compressed RLE.

pycocotools draws without a check: a point far outside the image, or runs that do not add up, crash
the process or take all its memory. So this module checks every segmentation first.
"""

from __future__ import annotations

from typing import Annotated, cast

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pydantic import Field, TypeAdapter, ValidationError

from pipeline.geometry.masks import Rle, check_runs
from pipeline.io.image_header import PIXEL_LIMIT, SIDE_LIMIT
from pipeline.io.read import explain, shown_value

_FAR_PIXELS, _FAR_SIDES = 1e4, 10  # how far outside a point may be: pixels, and longer sides
_MAX_OUTLINE = 10**7  # pixels of a polygon's outline: pycocotools takes 60 bytes for each
_FINITE = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_RINGS = TypeAdapter(list[list[_FINITE]])
_COUNTS = TypeAdapter(list[_FINITE])


def segmentation_rle(segmentation: object, size: tuple[int, int]) -> Rle:
    """A list of polygons, an uncompressed or a compressed RLE as RLE, by pycocotools.

    size: (height, width) of the image. Raises ValueError for anything else, for a mask of another
    size, and for a mask larger than any image that can be read.
    """
    height, width = size
    refuse_large(size)
    if isinstance(segmentation, list):
        return _polygons_rle(segmentation, size)
    if not isinstance(segmentation, dict):
        raise ValueError(f"a segmentation that is {shown_value(segmentation)}")
    if "counts" not in segmentation:
        names = ", ".join(map(shown_value, [*segmentation][:5])) or "none"
        raise ValueError(f"a segmentation without counts, which an RLE has (keys: {names})")
    stated = segmentation.get("size")
    if stated != [height, width]:
        shown = stated if isinstance(stated, list) and len(stated) == 2 else shown_value(stated)
        raise ValueError(f"a mask of size {_short(shown)} on an image of size {[height, width]}")
    counts = segmentation.get("counts")
    if isinstance(counts, list):
        return _counts_rle(counts, size)
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")  # what is not ASCII is refused by its alphabet
    if not isinstance(counts, bytes):
        raise ValueError(f"a mask whose counts are {shown_value(counts)}")
    check_runs(counts, height, width)
    return Rle(size=[height, width], counts=counts)


def refuse_large(size: tuple[int, int]) -> None:
    """Raise ValueError for a mask on an image (height, width) that is too large to be read."""
    height, width = size
    if max(size) > SIDE_LIMIT or height * width >= PIXEL_LIMIT:
        raise ValueError(f"a mask on an image of {width}x{height} pixels, which cannot be read")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else shown_value(text)


def _polygons_rle(rings: list[object], size: tuple[int, int]) -> Rle:
    try:
        checked = _RINGS.validate_python(rings)
    except ValidationError as error:
        raise ValueError(f"a polygon {explain(error)}") from error
    if not checked:
        raise ValueError("no polygon")
    for number, ring in enumerate(checked):
        # pycocotools takes a first ring of 4 numbers for a box; a later one of 2 or 4 adds nothing
        if len(ring) < (2 if number else 6) or len(ring) % 2:
            raise ValueError(f"a polygon of {len(ring)} numbers; it needs 3 points of 2")
        refuse_far(np.array(ring).reshape(-1, 2), size)
    merged = coco_mask.merge(coco_mask.frPyObjects(checked, *size))
    return Rle(size=list(size), counts=merged["counts"])


def refuse_far(points: NDArray[np.float64], size: tuple[int, int]) -> None:
    """As `refuse_far_points`, for one polygon (P, 2)."""
    refuse_far_points(points, np.array([len(points)]), size)


def refuse_far_points(
    points: NDArray[np.float64], ends: NDArray[np.int64], size: tuple[int, int]
) -> None:
    """Raise ValueError for a polygon that is far outside an image (height, width), or that has an
    outline longer than any real one. points: (P, 2) xy of all polygons, one after another. ends:
    (N,), where each ends."""
    height, width = size
    far = _FAR_SIDES * max(size) + _FAR_PIXELS
    outside = max(float((-points).max()), float((points - (width, height)).max()))
    if not outside <= far:  # true of NaN too
        reason = f"a polygon with a point {outside:g} pixels outside"
        raise ValueError(f"{reason} an image of {width}x{height}")
    before = np.roll(points, 1, axis=0)
    starts = np.concatenate([[0], ends[:-1]])
    before[starts] = points[ends - 1]
    steps = np.abs(points - before).max(axis=1)
    length = float(np.add.reduceat(steps, starts).max())
    if length > _MAX_OUTLINE:
        raise ValueError(f"a polygon with an outline of {length:g} pixels")


def _counts_rle(counts: list[object], size: tuple[int, int]) -> Rle:
    try:
        runs = np.array(_COUNTS.validate_python(counts), dtype=np.float64)
    except ValidationError as error:
        raise ValueError(f"a mask's counts {explain(error)}") from error
    height, width = size
    if (runs < 0).any() or (runs > height * width).any() or (runs % 1).any():
        raise ValueError("a mask's counts should be whole numbers of pixels")
    if runs.sum() != height * width:
        raise ValueError(f"a mask's runs cover {int(runs.sum())} pixels of {width}x{height}")
    whole = {"size": list(size), "counts": runs.astype(np.uint32).tolist()}
    return Rle(size=list(size), counts=cast(bytes, coco_mask.frPyObjects(whole, *size)["counts"]))
