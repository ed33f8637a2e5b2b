"""Masks cropped to their pixels, so that time and memory depend on the size of an instance, not of
its image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
_MAX_PAIRWISE = 200  # boxes; for fewer, every pair is compared


class Patch(NamedTuple):
    """The pixels (h, w) bool of one instance. The top left one is the pixel (x, y) of the image."""

    x: int
    y: int
    pixels: Mask

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the patch, half-open. For a tight patch, this is the box of the
        instance."""
        height, width = self.pixels.shape
        return self.x, self.y, self.x + width, self.y + height

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.pixels))


def tight(mask: Mask, x: int = 0, y: int = 0) -> Patch:
    """The smallest patch with all pixels of a mask (H, W) whose corner is at (x, y). The patch of
    an empty mask is 0 x 0."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return Patch(x + left, y + top, mask[top : top + height, left : left + width])


def paste(patch: Patch, height: int, width: int) -> Mask:
    """The mask of the whole image (height, width). Pixels outside the image are dropped."""
    canvas = np.zeros((height, width), dtype=bool)
    x0, y0, x1, y1 = patch.box
    inside = patch.pixels[max(-y0, 0) : height - y0, max(-x0, 0) : width - x0]
    canvas[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = inside
    return canvas


def components(mask: Mask, bridge_gap: int = 0) -> list[Patch]:
    """The 8-connected instances of a mask (H, W), sorted by the row of their top pixels, then from
    left to right.

    Parts with at most `bridge_gap` background pixels between them, along a row, a column or a
    diagonal, are one instance; the pixels stay unchanged. Only the region with pixels is searched,
    so a small defect on a large image is cheap.
    """
    x, y, region = tight(mask)
    if not region.size:
        return []
    glue = region.view(np.uint8)
    if bridge_gap > 0:
        glue = cv2.dilate(glue, np.ones((bridge_gap + 1, bridge_gap + 1), np.uint8)).astype(
            np.uint8
        )
    outlines, tree = cv2.findContours(glue, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer = [
        o for o, node in zip(outlines, tree[0], strict=True) if node[3] < 0
    ]  # without the edges of holes
    boxes = [cv2.boundingRect(outline) for outline in outer]
    labels = None
    if _overlap(boxes):  # else each box holds one component alone
        _, labels = cv2.connectedComponents(glue, connectivity=8, ltype=cv2.CV_32S)
    parts = []
    for outline, (left, top, width, height) in zip(outer, boxes, strict=True):
        window = slice(top, top + height), slice(left, left + width)
        part = region[window]
        if labels is not None:
            part = part & (labels[window] == labels[outline[0, 0, 1], outline[0, 0, 0]])
        parts.append(tight(part, x + left, y + top) if bridge_gap > 0 else
                     Patch(x + left, y + top, part.copy()))  # fmt: skip
    parts = [part for part in parts if part.pixels.size]
    return sorted(parts, key=lambda part: (part.y, part.x + int(part.pixels[0].argmax())))


def _overlap(boxes: Sequence[Sequence[int]]) -> bool:
    """Whether any two boxes (x, y, width, height) share a pixel."""
    rows = np.array(boxes)
    low, high = rows[:, :2], rows[:, :2] + rows[:, 2:]
    if len(rows) > _MAX_PAIRWISE:
        return True
    shared = (low[:, None] < high[None]).all(axis=2)
    return bool((shared & shared.T).sum() > len(rows))


def split_instances(
    mask: Mask, merge: bool = False, min_area: int = 0, bridge_gap: int = 0
) -> tuple[list[Patch], int]:
    """The instances of a defect mask (H, W), and the number of specks that were left out.

    merge: one instance for the whole image, else one for each connected component. min_area: leave
    out instances (specks) with fewer pixels; 0 leaves out none. bridge_gap: see `components`.
    """
    if merge:
        whole = tight(mask)
        parts = [whole] if whole.pixels.size else []
    else:
        parts = components(mask, bridge_gap)
    large = [part for part in parts if part.area >= min_area]
    return large, len(parts) - len(large)


def count_parts_and_holes(patch: Patch) -> tuple[int, int]:
    """The numbers of 8-connected parts of a patch and of its holes (4-connected background)."""
    if not patch.pixels.size:
        return 0, 0
    padded = np.pad(patch.pixels.view(np.uint8), 1)
    _, tree = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[-2:]
    holes = int((tree[0, :, 3] >= 0).sum())
    return len(tree[0]) - holes, holes


def boundary(patch: Patch, height: int, width: int, width_ratio: float = 0.02) -> Mask:
    """The pixels (h, w) of a patch near its contour: at most `width_ratio` of the diagonal of the
    image (height, width) away.

    This is the region of boundary IoU (Cheng et al., CVPR 2021, section 4): the mask without its
    erosion. The border of the image counts as a contour.
    """
    steps = max(1, round(width_ratio * float(np.hypot(height, width))))
    padded = np.pad(patch.pixels.view(np.uint8), 1)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)
    return np.asarray(patch.pixels & ~eroded[1:-1, 1:-1].astype(bool))


def has_grey_values(
    values: NDArray[np.uint8] | NDArray[np.uint16], patches: Sequence[Patch]
) -> bool:
    """Whether a mask has different values above 0: soft or resampled edges have."""
    for patch in patches:
        x0, y0, x1, y1 = patch.box
        inside = values[y0:y1, x0:x1][patch.pixels]
        if inside.min() != inside.max():
            return True
    return False
