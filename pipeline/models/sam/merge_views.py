"""From SAM's logits on each view to one object's mask on the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import Boxes, area, clip
from pipeline.geometry.crops import Crop, dihedral_inverse, uncrop
from pipeline.geometry.patches import Patch, tight
from pipeline.models.sam.calibration import quality_table
from pipeline.models.sam.views import View, padded
from pipeline.types import Image, Masks

Logits = NDArray[np.float32]
_CERTAIN = 8.0  # logits; beyond, one view would outvote the others
_UNLIKELY, _RIM = -4.0, 2  # logits; cells of SAM's grid


class MaskLogits(NamedTuple):
    """One object's logits at the image's scale, the first at pixel (x, y), the IoU that SAM
    predicts, and the mask of each single view."""

    x: int
    y: int
    logits: Logits
    predicted_iou: float
    single: list[Patch]


class PriorLogits(NamedTuple):
    """Prior log ratios at the image's scale, the first at pixel (x, y)."""

    x: int
    y: int
    ratio: Logits

    def added_to(self, mask: MaskLogits) -> MaskLogits:
        """The logits of a mask with the prior added where they overlap."""
        height, width = self.ratio.shape
        x0, y0 = max(self.x, mask.x), max(self.y, mask.y)
        x1 = min(self.x + width, mask.x + mask.logits.shape[1])
        y1 = min(self.y + height, mask.y + mask.logits.shape[0])
        if x1 <= x0 or y1 <= y0:
            return mask
        logits = mask.logits.copy()
        part = self.ratio[y0 - self.y : y1 - self.y, x0 - self.x : x1 - self.x]
        logits[y0 - mask.y : y1 - mask.y, x0 - mask.x : x1 - mask.x] += part
        return mask._replace(logits=logits)


def masks_of(
    image: Image,
    boxes: Boxes,
    pad: float,
    segment: Callable[[Boxes], Iterable[tuple[Patch, dict[str, float]]]],
) -> Masks:
    """A row for each box (N, 4), widened by `pad` of its sides. `segment` gives a mask and its
    figures for each box with pixels inside the image. The others, and empty masks, failed."""
    height, width = image.shape[:2]
    inside = clip(padded(boxes, pad), height, width)
    usable = np.flatnonzero(np.isfinite(boxes).all(axis=1) & (area(inside) > 0))
    patches = [Patch(0, 0, np.zeros((0, 0), bool))] * len(boxes)
    figures: list[dict[str, float]] = [{} for _ in range(len(boxes))]
    for row, result in zip(usable, segment(inside[usable]), strict=True):
        patches[row], figures[row] = result
    failed = np.array([not patch.pixels.size for patch in patches], dtype=bool)
    masks = tuple(mask_geometry.encode_patches(patches, height, width))
    return Masks(masks, failed, quality_table(figures))


def merge_views(
    views: Sequence[View],
    logits: Logits,
    predicted: NDArray[np.float32],
    size: tuple[int, int],
) -> MaskLogits:
    """The mean logits of all views of a pixel. Views of one crop are merged on its own grid."""
    by_crop: dict[Crop, list[Logits]] = {}
    for view, predicted_logits in zip(views, logits, strict=True):
        upright = np.asarray(dihedral_inverse(predicted_logits, view.position), np.float32)
        if len(views) > 1:
            upright = np.clip(upright, -_CERTAIN, _CERTAIN)
        by_crop.setdefault(view.crop, []).append(upright)
    means = {w: np.asarray(np.mean(rows, axis=0), np.float32) for w, rows in by_crop.items()}
    single = []
    if len(views) > 1:
        placed = [uncrop(row, w, size) for w, rows in by_crop.items() for row in rows]
        single = [patch_of(MaskLogits(*part, 0.0, []), None) for part in placed]
    if len(means) == 1:
        crop, mean = next(iter(means.items()))
        return MaskLogits(
            *uncrop(*_where_likely(mean, crop), size), float(predicted.mean()), single
        )
    parts = [uncrop(mean, crop, size) for crop, mean in means.items()]
    x0, y0 = min(part[0] for part in parts), min(part[1] for part in parts)
    x1 = max(x + values.shape[1] for x, _, values in parts)
    y1 = max(y + values.shape[0] for _, y, values in parts)
    total = np.zeros((y1 - y0, x1 - x0), np.float32)
    count = np.zeros_like(total)
    for x, y, values in parts:
        place = np.s_[y - y0 : y - y0 + values.shape[0], x - x0 : x - x0 + values.shape[1]]
        total[place] += values
        count[place] += 1
    return MaskLogits(
        x0,
        y0,
        np.asarray(total / np.maximum(count, 1), np.float32),
        float(predicted.mean()),
        single,
    )


def _where_likely(logits: Logits, crop: Crop) -> tuple[Logits, Crop]:
    """The square part of a crop's logits in which any pixel could be the object's, and a rim. To
    resize the rest to the image's scale would cost much and show nothing."""
    rows, columns = (np.flatnonzero((logits > _UNLIKELY).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return logits, crop
    count = len(logits)
    longer = max(int(np.ptp(rows)), int(np.ptp(columns)))
    side = min(count, longer + 1 + 2 * _RIM)
    top = min(max(int(rows[0]) - _RIM, 0), count - side)
    left = min(max(int(columns[0]) - _RIM, 0), count - side)
    cell = crop.side / count
    part = Crop(crop.x + left * cell, crop.y + top * cell, side * cell)
    return np.ascontiguousarray(logits[top : top + side, left : left + side]), part


def patch_of(mask: MaskLogits, limits: NDArray[np.float32] | None) -> Patch:
    """The mask of logits above 0, as far as its pixels' centres are inside `limits` (4,)."""
    return limited(tight(mask.logits > 0, mask.x, mask.y), limits)


def limited(patch: Patch, limits: NDArray[np.float32] | None) -> Patch:
    """The patch's pixels whose centres are inside a box (4,)."""
    if limits is None or not patch.pixels.size:
        return patch
    x0, y0, x1, y1 = np.ceil(limits - 0.5).astype(int)
    left, top = max(x0 - patch.x, 0), max(y0 - patch.y, 0)
    inside = patch.pixels[top : max(y1 - patch.y, 0), left : max(x1 - patch.x, 0)]
    return tight(np.ascontiguousarray(inside), patch.x + left, patch.y + top)


def interior_point(logits: MaskLogits) -> NDArray[np.float32] | None:
    """The point (x, y) of a mask that lies farthest from its edge."""
    import cv2

    mask = np.pad((logits.logits > 0).astype(np.uint8), 1)
    if not mask.any():
        return None
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([logits.x + x - 0.5, logits.y + y - 0.5], np.float32)
