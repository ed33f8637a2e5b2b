"""Images unlike all others of a set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_NEAREST = 3
_BLOCK = 256  # images whose distances are in memory
_NORMAL = 1.4826  # from the median absolute deviation to the standard deviation of a normal
_FEWEST = 10  # images, under which a set tells nothing


def deviations(embeddings: NDArray[np.float32], groups: Sequence[str]) -> NDArray[np.float64]:
    """(N,) how far each image is from its nearest, in robust standard deviations above the median.

    embeddings: (N, D). groups: images of one object do not count for each other. Zeros for fewer
    than ten images, and for images that are all equally far.
    """
    if len(embeddings) < _FEWEST:
        return np.zeros(len(embeddings))
    spread = embeddings.std(axis=0) + 1e-6
    scaled = np.clip((embeddings - embeddings.mean(axis=0)) / spread, -5, 5).astype(np.float32)
    squares = (scaled**2).sum(axis=1)
    names = np.unique(np.asarray(groups), return_inverse=True)[1]
    distances = np.zeros(len(scaled))
    for start in range(0, len(scaled), _BLOCK):
        rows = slice(start, start + _BLOCK)
        between = squares[rows, None] + squares[None] - 2 * scaled[rows] @ scaled.T
        between[names[rows, None] == names[None]] = np.inf
        nearest = np.partition(between, min(_NEAREST, len(scaled)) - 1, axis=1)[:, :_NEAREST]
        finite = np.where(np.isfinite(nearest), np.maximum(nearest, 0), np.nan)
        with np.errstate(invalid="ignore"):
            counts = np.isfinite(finite).sum(axis=1)
            sums = np.nansum(np.sqrt(finite), axis=1)
        distances[rows] = np.where(counts > 0, sums / np.maximum(counts, 1), 0)
    median = float(np.median(distances))
    scale = _NORMAL * float(np.median(np.abs(distances - median)))
    return (distances - median) / scale if scale > 0 else np.zeros(len(distances))
