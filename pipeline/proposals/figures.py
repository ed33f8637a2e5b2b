"""Figures that say how sure the outline of a mask is, by the segmenter's map around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from pipeline.geometry.patches import Mask, Patch, paste
from pipeline.models.segmentation.defect_map import FULL, DefectMap

_LIMITS = (0.002, 0.998)  # beyond which the logit of a share says no more
_NEAR, _FAR = 24, 96  # pixels around a mask
_LEVELS = (0.25, 0.5, 0.75)  # of the probability


def outline_figures(
    found: DefectMap, mask: Patch, region: Patch | None, level: int
) -> dict[str, float]:
    """By name, the figures of a tight mask on a map.

    iou_near: the logit of the IoU that it has with its defect, if each pixel is a defect with its
    own probability (Nowozin, CVPR 2014), and what other regions hold is none of this defect.
    iou_far: the same in a wider ring, with what other regions hold. steep_low, steep_high: how much
    of what lies above one level also lies above the next; 1 for an outline as steep as can be.

    region: the region of the map that the mask is of; None for none. level: the value of the map
    from which a pixel is part of a region.
    """
    x0, y0, x1, y1 = mask.box
    height, width = found.size
    left, top = max(x0 - _FAR, 0), max(y0 - _FAR, 0)
    values = found.defect[top : min(y1 + _FAR, height), left : min(x1 + _FAR, width)]
    inside = _within(mask, values, left, top)
    free = (values < level) | inside
    if region is not None:
        free |= _within(region, values, left, top)
    near = np.s_[
        max(y0 - _NEAR - top, 0) : y1 + _NEAR - top, max(x0 - _NEAR - left, 0) : x1 + _NEAR - left
    ]
    own = values[near][free[near]]
    shared, area = _likely(values[inside]), max(mask.area, 1)
    low, middle, high = (int(np.count_nonzero(own > share * FULL)) for share in _LEVELS)
    return {
        "iou_near": as_logit(shared / (area + _likely(own) - shared)),
        "iou_far": as_logit(shared / (area + _likely(values) - shared)),
        "steep_low": middle / max(low, 1),
        "steep_high": high / max(middle, 1),
    }


def as_logit(share: float) -> float:
    """The logit of a share, within limits."""
    return float(logit(np.clip(share, *_LIMITS)))


def _within(patch: Patch, values: NDArray[np.uint8], left: int, top: int) -> Mask:
    """A patch in the part of the image whose corner is at (left, top)."""
    moved = Patch(patch.x - left, patch.y - top, patch.pixels)
    return paste(moved, values.shape[0], values.shape[1])


def _likely(values: NDArray[np.uint8]) -> float:
    """How many pixels of a map are a defect, by their probabilities."""
    return float(values.sum(dtype=np.int64)) / FULL
