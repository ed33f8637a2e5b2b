"""Masks whose size has width and height the other way round, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import JsonValue

from pipeline.formats.coco_masks import segmentation_rle
from pipeline.geometry.masks import Rle, bounding_boxes, decode, encode

_OFF = 1.0  # pixels that the side of a box may be off
Size = tuple[int, int]


def is_swapped(segmentation: JsonValue, size: Size) -> bool:
    """Whether an RLE is of an image of `size` (height, width) that lies on its side."""
    height, width = size
    return (
        height != width
        and isinstance(segmentation, dict)
        and segmentation.get("size") == [width, height]
    )


def meant_by(
    segmentation: Mapping[str, JsonValue], box: Sequence[float], size: Size
) -> tuple[Rle, str] | None:
    """The mask that a swapped RLE means, and what was done to it: the runs are right and its size
    is not, or the mask is drawn with x for y. The box (x, y, width, height) decides: None where
    neither fills it, or both do and are not the same. Raises ValueError for a broken RLE."""
    height, width = size
    stated = segmentation_rle({**segmentation}, (width, height))
    readings = {
        "size put in order": Rle(size=[height, width], counts=stated["counts"]),
        "mask turned": encode(np.ascontiguousarray(decode(stated).T)),
    }
    fits = {text: rle for text, rle in readings.items() if _fills(rle, box)}
    if len({rle["counts"] for rle in fits.values()}) != 1:
        return None
    text, rle = next(iter(fits.items()))
    return rle, f"{text}, so that it fills its box"


def _fills(rle: Rle, box: Sequence[float]) -> bool:
    x, y, width, height = box
    off = bounding_boxes([rle])[0] - np.array([x, y, x + width, y + height])
    return bool(np.abs(off).max() <= _OFF)
