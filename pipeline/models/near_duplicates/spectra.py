"""Which images of a set may show one object: those whose textures have the nearest spectra.

The magnitude of a spectrum does not change when an image is moved, little when it is cropped or
turned slightly, and a mirrored image has the mirrored magnitude. So one search finds them all.
"""

from __future__ import annotations

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from pipeline.models.near_duplicates.thumbnails import Texture

_GRID, _KEPT = 96, 64  # frequencies of a side; those that are kept, the lowest
_CELLS = 24  # of a side, after neighbours are averaged
_NEAREST = 8  # candidates of an image, and as many mirrored ones
_ROWS = 4096  # queries at once

Spectra = NDArray[np.float32]
LENGTH = _CELLS * (_CELLS // 2)


def spectrum(texture: Texture) -> Spectra:
    """(2, LENGTH) float32: the magnitudes of a texture (h, w) and of its mirror image."""
    height, width = (min(side, _GRID) for side in texture.shape)
    part = texture[:height, :width] * np.outer(np.hanning(height), np.hanning(width))
    magnitude = np.abs(scipy.fft.fft2(part.astype(np.float32), s=(_GRID, _GRID)))
    low, high = (_GRID - _KEPT) // 2, (_GRID + _KEPT) // 2
    kept = scipy.fft.fftshift(magnitude)[low:high, low:high]
    mirrored = np.roll(kept[:, ::-1], 1, axis=1)
    return np.stack([_cells(kept), _cells(mirrored)])


def _cells(magnitude: NDArray[np.float32]) -> Spectra:
    cells = cv2.resize(magnitude, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    half = cells[:, : _CELLS // 2]  # the other half is the same, turned
    return np.asarray(np.sqrt(half / max(float(half.mean()), 1e-9)).ravel(), np.float32)


def candidates(spectra: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pairs (P, 3) int64 of rows, the smaller first, and whether they are nearest as mirror images;
    and their cosine similarity (P,) float32.

    spectra: (N, 2, LENGTH), as `spectrum` makes them. It is changed: the mean of the set is taken
    out, and the length is 1. Memory grows with N alone.
    """
    import faiss

    spectra -= spectra[:, 0].mean(axis=0)
    spectra /= np.maximum(np.linalg.norm(spectra, axis=2, keepdims=True), 1e-9)
    index = faiss.IndexFlatIP(spectra.shape[2])
    index.add(np.ascontiguousarray(spectra[:, 0]))
    nearest: list[NDArray[np.int64]] = []
    values: list[NDArray[np.float32]] = []
    for start in range(0, len(spectra), _ROWS):
        for mirrored in (0, 1):
            queries = np.ascontiguousarray(spectra[start : start + _ROWS, mirrored])
            near, rows = index.search(queries, min(_NEAREST + 1, len(spectra)))
            one = np.repeat(np.arange(start, start + len(rows)), rows.shape[1])
            other = rows.ravel()
            pair = np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1)
            nearest.append(np.c_[pair, np.full(len(pair), mirrored)][one != other])
            values.append(near.ravel()[one != other])
    pairs, first = np.unique(np.concatenate(nearest), axis=0, return_index=True)
    return pairs.astype(np.int64), np.concatenate(values)[first]
