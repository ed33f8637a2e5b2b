"""Errors planted into right labels, so that a model can learn what errors look like on this set."""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np

from pipeline.geometry.patches import Mask, Patch, paste, tight

ErrorKind = Literal["none", "nothing", "category", "outline"]
KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)
_SHIFT = (0.3, 0.7)  # of the box's sides
_GROWTH = 0.25  # of the root of the area, that a loose outline is off
_TRIES = 20  # places that are tried for a mask on nothing


def shifted(patch: Patch, size: tuple[int, int], generator: np.random.Generator) -> Patch | None:
    """The mask, moved by 0.3 to 0.7 of its sides in a random direction; None where no pixel
    stays in the image (height, width)."""
    angle, share = generator.uniform(0, 2 * np.pi), generator.uniform(*_SHIFT)
    height, width = patch.pixels.shape
    across, down = round(width * share * np.cos(angle)), round(height * share * np.sin(angle))
    if not across and not down:
        across = 1
    return _inside(Patch(patch.x + across, patch.y + down, patch.pixels), size)


def loosened(patch: Patch, size: tuple[int, int], generator: np.random.Generator) -> Patch | None:
    """The mask with an outline that is too wide, or, by half chance, the filled box."""
    if generator.random() < 0.5 and patch.area < 0.8 * patch.pixels.size:
        return Patch(patch.x, patch.y, np.ones_like(patch.pixels))
    steps = max(2, round(_GROWTH * patch.area**0.5))
    wide = np.pad(patch.pixels.view(np.uint8), steps)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * steps + 1, 2 * steps + 1))
    grown = np.asarray(cv2.dilate(wide, kernel), bool)
    return _inside(Patch(patch.x - steps, patch.y - steps, grown), size)


def on_nothing(
    patch: Patch, taken: Mask, generator: np.random.Generator, size: tuple[int, int]
) -> Patch | None:
    """The mask at a random place that no object has; None where none is found. taken: (H, W)."""
    height, width = patch.pixels.shape
    if height > size[0] or width > size[1]:
        return None
    for _ in range(_TRIES):
        x = int(generator.integers(size[1] - width + 1))
        y = int(generator.integers(size[0] - height + 1))
        if not taken[y : y + height, x : x + width][patch.pixels].any():
            return Patch(x, y, patch.pixels)
    return None


def other_category(label: int, categories: int, generator: np.random.Generator) -> int | None:
    """A category that is not the label's; None where there is one category."""
    if categories < 2:
        return None
    return int((label + generator.integers(1, categories)) % categories)


def _inside(patch: Patch, size: tuple[int, int]) -> Patch | None:
    """The part of a patch in an image (height, width)."""
    x0, y0 = max(patch.x, 0), max(patch.y, 0)
    x1, y1 = min(patch.box[2], size[1]), min(patch.box[3], size[0])
    if x1 <= x0 or y1 <= y0:
        return None
    moved = Patch(patch.x - x0, patch.y - y0, patch.pixels)
    part = tight(paste(moved, y1 - y0, x1 - x0), x0, y0)
    return part if part.pixels.size else None


def drawn_error(
    kind: ErrorKind,
    patch: Patch,
    label: int,
    taken: Mask,
    categories: int,
    generator: np.random.Generator,
) -> tuple[Patch, int] | None:
    """A label with an error of a kind: its mask and its category; None where there can be none."""
    size = (taken.shape[0], taken.shape[1])
    if kind == "category":
        other = other_category(label, categories, generator)
        return None if other is None else (patch, other)
    if kind == "nothing":
        moved = on_nothing(patch, taken, generator, size)
    elif kind == "outline":
        change = shifted if generator.random() < 0.5 else loosened
        moved = change(patch, size, generator)
    else:
        moved = patch
    return None if moved is None else (moved, label)
