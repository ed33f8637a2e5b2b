"""Masks for benchmarks: blobs, rings, scratches and blocks, one to six an image, by seed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def draw_mask(seed: int, side: int = 1024) -> np.ndarray:
    """One mask (side, side) uint8 of 0 and 255."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.uint8)
    for _ in range(generator.integers(1, 7)):
        centre = generator.integers(60, side - 60, 2)
        kind = generator.integers(0, 4)
        if kind == 0:
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            radii = generator.integers(8, 60) * (1 + 0.15 * generator.standard_normal(24))
            around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
            cv2.fillPoly(mask, [(centre + radii[:, None] * around).astype(np.int32)], 255)
        elif kind == 1:
            radius, width = int(generator.integers(10, 50)), int(generator.integers(2, 8))
            cv2.circle(mask, (int(centre[0]), int(centre[1])), radius, 255, width)
        elif kind == 2:
            steps = np.cumsum(generator.integers(-30, 30, (8, 2)), axis=0)
            width = int(generator.integers(1, 4))
            cv2.polylines(mask, [(centre + steps).astype(np.int32)], False, 255, width)
        else:
            end = centre + generator.integers(5, 60, 2)
            cv2.rectangle(mask, centre.tolist(), end.tolist(), 255, -1)
    return mask


def write_product(root: Path, count: int, side: int = 1024, distinct: int = 400) -> Path:
    """A product of one kind of defect in MVTec's layout; beyond `distinct`, images are links to the
    first ones, so that the disk need not hold them."""
    images, masks = root / "test" / "blob", root / "ground_truth" / "blob"
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, mask = images / f"{number:06d}.png", masks / f"{number:06d}_mask.png"
        if number < distinct:
            cv2.imwrite(str(mask), draw_mask(number, side))
            image.hardlink_to(mask)
        else:
            first = number % distinct
            image.hardlink_to(images / f"{first:06d}.png")
            mask.hardlink_to(masks / f"{first:06d}_mask.png")
    return root
