"""Agreement of masks with the truth, object by object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import Boxes, iou
from pipeline.geometry.masks import Rle

SIZE_BINS = (("small", 0, 32**2), ("medium", 32**2, 96**2), ("large", 96**2, 1 << 62))


@dataclass(frozen=True)
class Agreement:
    """IoU and boundary IoU, each (N,) float64 in [0, 1], of N pairs of masks."""

    iou: NDArray[np.float64]
    boundary_iou: NDArray[np.float64]


def agreement(predicted: Sequence[Rle], truth: Sequence[Rle]) -> Agreement:
    """Compare masks pair by pair. Boundary IoU: Cheng et al., CVPR 2021, at 2 % of the diagonal."""
    pairs = list(zip(predicted, truth, strict=True))
    return Agreement(
        np.array([mask_geometry.paired_iou(*pair) for pair in pairs], dtype=np.float64),
        np.array([mask_geometry.boundary_iou(*pair) for pair in pairs], dtype=np.float64),
    )


def match(predicted: Boxes, truth: Boxes, minimum: float = 0.5) -> list[tuple[int, int]]:
    """Pairs (row in `predicted`, row in `truth`) with the largest sum of box IoU.

    Each row is used at most once. Pairs with an IoU under `minimum` are left out. Hungarian
    assignment, by scipy (`linear_sum_assignment`).
    """
    if not len(predicted) or not len(truth):
        return []
    shared = iou(predicted, truth)
    rows, columns = linear_sum_assignment(shared, maximize=True)
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if shared[row, column] >= minimum
    ]


def size_bin(area: float) -> str:
    """COCO's size class of an object of `area` pixels: small under 32^2, medium under 96^2, else
    large."""
    return next(name for name, low, high in SIZE_BINS if low <= area < high)


def mean_by(keys: Iterable[str], values: Sequence[float]) -> dict[str, tuple[float, int]]:
    """(mean, count) of the values of each key, sorted by key."""
    groups: dict[str, list[float]] = {}
    for key, value in zip(keys, values, strict=True):
        groups.setdefault(key, []).append(float(value))
    return {key: (float(np.mean(groups[key])), len(groups[key])) for key in sorted(groups)}
