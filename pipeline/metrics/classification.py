"""Image-level classification: confusion, accuracy, F1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Classification:
    """accuracy and macro_f1 in [0, 1]; f1: (C,), NaN for a category that is neither true nor
    predicted; confusion: (C, C) counts, rows true, columns predicted."""

    accuracy: float
    macro_f1: float
    f1: NDArray[np.float64]
    confusion: NDArray[np.int64]


def classification(
    truth: NDArray[np.int64], predictions: NDArray[np.int64], categories: int
) -> Classification:
    """Figures for (N,) true and predicted labels. Macro F1 is over the categories that occur."""
    confusion = np.zeros((categories, categories), dtype=np.int64)
    np.add.at(confusion, (truth, predictions), 1)
    hits = np.diag(confusion).astype(np.float64)
    occurs = confusion.sum(axis=0) + confusion.sum(axis=1)
    f1 = np.divide(2 * hits, occurs, out=np.full(categories, np.nan), where=occurs > 0)
    total = confusion.sum()
    accuracy = float(hits.sum() / total) if total else float("nan")
    macro = float(np.nanmean(f1)) if (occurs > 0).any() else float("nan")
    return Classification(accuracy, macro, f1, confusion)
