"""Figures of one label against the probabilities of an out-of-fold prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.patches import Mask, Patch, components, paste

Probabilities = NDArray[np.float32]
NAMES = ("inside", "peak", "rim", "edge", "agreement", "overlap", "own", "size", "elongation")
_LEAST, _MOST = 0.02, 0.98  # probability beyond which a logit says no more
_BAND = 0.15  # width of the bands on both sides of an outline, to the root of the area
_REACH = 0.5  # how far around a label its figures see, in longer sides
_LEAST_REACH = 8  # pixels
_LIKELY, _POSSIBLE = 0.5, 0.3  # probabilities of a defect's core, and of its extent


@dataclass(frozen=True)
class Region:
    """A part of an image that is predicted to be a defect. category: the likeliest."""

    patch: Patch
    category: int
    values: NDArray[np.float64]


def object_figures(
    probabilities: Probabilities, patch: Patch, label: int, taken: Mask
) -> NDArray[np.float64]:
    """(9,) figures of one label, see `NAMES`, those in [0, 1] as logits.

    inside, peak: mean and 90 % quantile of the probability of a defect in the mask. rim, edge: its
    means just outside and just inside of the outline. agreement: soft IoU of mask and probability.
    overlap: IoU of the mask with what is predicted there. own: share of the label's category among
    all. size: logarithm of the area. elongation: of the box.

    probabilities: (1 + C, H, W), background first. label: the category's number. taken: (H, W)
    pixels of all objects of the image, whose others do not count.
    """
    window, mask = _window(patch, taken.shape)
    defect = 1 - probabilities[0][window]
    free = mask | ~taken[window]
    band = max(2, round(_BAND * patch.area**0.5))
    outer = _dilated(mask, band) & free
    inner = mask & _dilated(~mask, band)
    inside = defect[mask]
    outside = defect[free & ~mask]
    predicted = _touching((defect > _LIKELY) & free, mask)
    own = float(probabilities[1 + label][window][mask].sum()) / max(float(inside.sum()), 1e-6)
    height, width = patch.pixels.shape
    shares = [
        float(inside.mean()),
        float(np.quantile(inside, 0.9)),
        _mean(defect[outer & ~mask]),
        _mean(defect[inner]),
        float(inside.sum() / (mask.sum() + outside.sum())),
        float((predicted & mask).sum() / max(int((predicted | mask).sum()), 1)),
        own,
    ]
    elongation = np.log(max(height, width) / min(height, width))
    return np.array([*_logit(shares), np.log(patch.area), elongation])


def likeliest_other(probabilities: Probabilities, patch: Patch, label: int) -> int:
    """The category, other than a label's own, with the highest mean probability in the mask; its
    own where there is no other."""
    x0, y0, x1, y1 = patch.box
    means = probabilities[1:, y0:y1, x0:x1][:, patch.pixels].mean(axis=1)
    means[label] = -1
    return int(means.argmax()) if len(means) > 1 else label


def unlabelled_regions(
    probabilities: Probabilities, taken: Mask, least_area: float
) -> list[Region]:
    """What is predicted to be a defect and touches no label. taken: (H, W) pixels of all labels.
    least_area: smaller regions are left out."""
    defect = 1 - probabilities[0]
    extent = defect > _POSSIBLE
    regions = []
    for patch in components(np.ascontiguousarray(extent)):
        x0, y0, x1, y1 = patch.box
        if patch.area < least_area or taken[y0:y1, x0:x1][patch.pixels].any():
            continue
        if defect[y0:y1, x0:x1][patch.pixels].max() > _LIKELY:
            regions.append(_region(probabilities, patch))
    return regions


def labelled_region(probabilities: Probabilities, patch: Patch, taken: Mask) -> Region | None:
    """What is predicted where a label is, as it were found without the label; None where nothing
    is. Pixels of other labels do not count."""
    window, mask = _window(patch, taken.shape)
    defect = 1 - probabilities[0][window]
    extent = _touching((defect > _POSSIBLE) & (mask | ~taken[window]), mask)
    if not extent.any() or defect[extent].max() <= _LIKELY:
        return None
    y, x = window[0].start, window[1].start
    left, top, width, height = cv2.boundingRect(extent.view(np.uint8))
    part = np.ascontiguousarray(extent[top : top + height, left : left + width])
    return _region(probabilities, Patch(x + left, y + top, part))


def _region(probabilities: Probabilities, patch: Patch) -> Region:
    """A region with its figures: mean and peak probability, that just outside, the share of the
    likeliest category, and the logarithm of the area."""
    window, mask = _window(patch, probabilities.shape[1:])
    defect = 1 - probabilities[0][window]
    means = probabilities[(slice(1, None), *window)][:, mask].mean(axis=1)
    band = max(2, round(_BAND * patch.area**0.5))
    inside = defect[mask]
    shares = [
        float(inside.mean()),
        float(inside.max()),
        _mean(defect[_dilated(mask, band) & ~mask]),
        float(means.max() / max(float(means.sum()), 1e-6)),
    ]
    return Region(patch, int(means.argmax()), np.array([*_logit(shares), np.log(patch.area)]))


def _window(patch: Patch, size: Sequence[int]) -> tuple[tuple[slice, slice], Mask]:
    """The part of an image (height, width) about a patch, and the patch's pixels in it."""
    reach = max(_LEAST_REACH, round(_REACH * max(patch.pixels.shape)))
    x0, y0, x1, y1 = patch.box
    left, top = max(x0 - reach, 0), max(y0 - reach, 0)
    right, bottom = min(x1 + reach, size[1]), min(y1 + reach, size[0])
    moved = Patch(x0 - left, y0 - top, patch.pixels)
    mask = paste(moved, bottom - top, right - left)
    return (slice(top, bottom), slice(left, right)), mask


def _touching(extent: Mask, mask: Mask) -> Mask:
    """The components of a region that share a pixel with a mask."""
    _, numbers = cv2.connectedComponents(np.ascontiguousarray(extent).view(np.uint8))
    return np.asarray(extent & np.isin(numbers, np.unique(numbers[mask & extent])), bool)


def _dilated(mask: Mask, band: int) -> Mask:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    return np.asarray(cv2.dilate(mask.view(np.uint8), kernel), bool)


def _mean(values: NDArray[np.float32]) -> float:
    return float(values.mean()) if values.size else 0.0


def _logit(shares: Sequence[float]) -> NDArray[np.float64]:
    clipped = np.clip(np.asarray(shares, np.float64), _LEAST, _MOST)
    return np.asarray(np.log(clipped / (1 - clipped)))
