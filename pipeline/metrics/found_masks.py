"""Masks of boxes that a detector found, and the true masks.

A mask is matched with the true mask of its category that it shares most with, the highest score
first, each true mask once. Its IoU is with that; a false alarm's is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TESTED_MASKS = "masks.json"  # in a folder of calibrate: a list of `TestedMask`


@dataclass(frozen=True)
class TestedMask:
    """A mask of a found box on a photo that no model and no fit learned from: its group, category
    and true IoU, 0 for a false alarm, and the expected ones."""

    group: str
    category: str
    iou: float
    expected_iou: float
    probability: float


def true_ious(
    shared: NDArray[np.float64],
    labels: NDArray[np.int64],
    true_labels: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> NDArray[np.float64]:
    """(N,) IoU of each mask with the true mask that it is matched with, see the module; 0 without
    one. shared: (N, M) IoU of predicted and true masks."""
    left = np.where(labels[:, None] == true_labels[None, :], shared, 0.0)
    matched = np.zeros(len(labels))
    for row in np.argsort(-scores, kind="stable") if left.shape[1] else ():
        column = int(left[row].argmax())
        matched[row] = left[row, column]
        if matched[row] > 0:
            left[:, column] = 0
    return matched
