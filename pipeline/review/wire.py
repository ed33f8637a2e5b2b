"""Masks as the page has them: the pixels of a box, as run lengths along its rows."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.geometry.masks import Rle, encode_patches, to_patch
from pipeline.geometry.patches import Patch, tight

_MOST_RUNS = 1 << 20
Whole = Annotated[int, Field(strict=True, ge=0, lt=1 << 31)]


class WireMask(BaseModel):
    """The pixels of a box at (x, y), w wide and h high. runs: lengths along the rows, of
    background and mask alternately, background first; together w * h."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: Whole
    y: Whole
    w: Whole
    h: Whole
    runs: Annotated[list[Whole], Field(max_length=_MOST_RUNS)]


def to_wire(rle: Rle) -> WireMask:
    """An RLE for the page."""
    return patch_to_wire(to_patch(rle))


def patch_to_wire(patch: Patch) -> WireMask:
    """A patch for the page."""
    height, width = patch.pixels.shape
    if not patch.pixels.size:
        return WireMask(x=0, y=0, w=0, h=0, runs=[])
    return WireMask(x=patch.x, y=patch.y, w=width, h=height, runs=_runs(patch.pixels))


def _runs(pixels: NDArray[np.bool_]) -> list[int]:
    flat = pixels.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0], [0] * int(flat[0]), edges, [flat.size]])
    return [int(length) for length in np.diff(bounds)]


def from_wire(mask: WireMask, size: tuple[int, int]) -> Rle:
    """The RLE of a page's mask, on an image of `size` (height, width). Raises ValueError for a
    mask that leaves its image, has no pixel, or whose runs do not fill its box."""
    height, width = size
    if mask.x + mask.w > width or mask.y + mask.h > height:
        raise ValueError("a mask that leaves its image")
    runs = np.array(mask.runs, np.int64)
    if runs.sum() != mask.w * mask.h:
        raise ValueError("a mask whose runs do not fill its box")
    values = np.arange(len(runs)) % 2 == 1
    pixels = np.repeat(values, runs).reshape(mask.h, mask.w)
    if not pixels.any():
        raise ValueError("a mask without a pixel: reject the object instead")
    return encode_patches([tight(pixels, mask.x, mask.y)], height, width)[0]
