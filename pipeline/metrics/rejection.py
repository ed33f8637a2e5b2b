"""Defects that are missed where images are rejected by their scores, and good images that are
rejected with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def rejections(
    scores: NDArray[np.float64], defects: NDArray[np.int64]
) -> tuple[list[float], list[float]]:
    """The share of good images rejected, and the share of defects on images that are not, at every
    limit of an image's score (N,), the highest first. defects: (N,) on each image."""
    good, total = max(int((defects == 0).sum()), 1), max(int(defects.sum()), 1)
    limits = [np.inf, *np.unique(scores)[::-1]]
    rejected = [float(((scores >= limit) & (defects == 0)).sum()) / good for limit in limits]
    missed = [float(defects[scores < limit].sum()) / total for limit in limits]
    return rejected, missed


def either(
    scores: Sequence[NDArray[np.float64]], defects: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N,) the score of an image that is rejected if any model rejects it, where each model may
    reject the same share of good images: minus the least share of good images with such a score.
    With no good image, the highest score."""
    good = defects == 0
    if not good.any():
        return np.asarray(np.max(scores, axis=0), np.float64)
    shares = [(one[good][None, :] >= one[:, None]).mean(axis=1) for one in scores]
    return np.asarray(-np.min(shares, axis=0), np.float64)
