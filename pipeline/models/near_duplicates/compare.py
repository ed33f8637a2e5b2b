"""Compares the thumbnails of a set, whitened by its mean spectrum."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.models.near_duplicates.spectra import LENGTH, spectrum
from pipeline.models.near_duplicates.store import Textures, Thumbnails
from pipeline.models.near_duplicates.thumbnails import (
    Size,
    Whitening,
    halved,
    halved_size,
    sample_of,
)
from pipeline.models.near_duplicates.verify import Placer, Transform, agreement
from pipeline.runtime.progress import track
from pipeline.runtime.threads import available_cpus

_CHUNK = 64  # pairs or thumbnails that a thread takes at once
_CACHED = 512  # textures in memory


class Comparer:
    """Finds how well two thumbnails fit at half size, and how much of their texture agrees."""

    def __init__(self, thumbnails: Thumbnails) -> None:
        """thumbnails: at least one that could be read."""
        self._thumbnails = thumbnails
        kept = thumbnails.kept
        sample = [thumbnails[kept[row]] for row in sample_of(len(kept))]
        longest = max(max(thumbnails.views[row].size) for row in kept)
        self._fine = Whitening(sample, longest)
        self._coarse = Whitening([halved(grey) for grey in sample], (longest + 1) // 2)
        sizes = [halved_size(view.size) for view in thumbnails.views]
        self._textures = Textures(sizes, thumbnails.folder / "textures")
        self._placer = Placer((longest + 1) // 2)
        self._fine_of = lru_cache(_CACHED)(lambda row: self._fine(thumbnails[row]))
        self._transform_of = lru_cache(_CACHED)(self._transformed)

    def spectra(self) -> NDArray[np.float32]:
        """(N, 2, LENGTH) float32 of the N thumbnails that could be read. Call it first: it keeps
        the half-size textures that `scores` compares."""
        kept = self._thumbnails.kept
        made = np.zeros((len(kept), 2, LENGTH), np.float32)

        def fill(start: int) -> None:
            for at in range(start, min(start + _CHUNK, len(kept))):
                texture = self._coarse(halved(self._thumbnails[kept[at]]))
                self._textures[kept[at]] = texture
                made[at] = spectrum(texture)

        with ThreadPoolExecutor(available_cpus()) as pool:
            list(pool.map(fill, range(0, len(kept), _CHUNK)))
        return made

    def scores(self, pairs: NDArray[np.int64], gate: float) -> NDArray[np.float64]:
        """(P, 2): how well pairs (P, 3) of rows fit at half size, and their agreement: 0 for those
        whose fit is under the `gate`. The third number is 1 for a mirrored pair."""
        starts = range(0, len(pairs), _CHUNK)

        def chunk(start: int) -> list[tuple[float, float]]:
            rows = pairs[start : start + _CHUNK].tolist()
            return [self._score(one, other, mirrored, gate) for one, other, mirrored in rows]

        with ThreadPoolExecutor(available_cpus()) as pool:
            done = track(pool.map(chunk, starts), "compare", len(starts))
            return np.array([row for rows in done for row in rows]).reshape(-1, 2)

    def _transformed(self, row: int, mirrored: bool) -> Transform:
        texture = self._textures[row]
        return self._placer.transform(texture[:, ::-1] if mirrored else texture)

    def _score(self, one: int, other: int, mirrored: int, gate: float) -> tuple[float, float]:
        sizes: tuple[Size, Size] = (self._textures.sizes[one], self._textures.sizes[other])
        first, second = self._transform_of(one, False), self._transform_of(other, bool(mirrored))
        fit = self._placer.best(first, second, sizes)
        if fit.value < gate:
            return fit.value, 0.0
        texture = self._fine_of(other)
        texture = texture[:, ::-1] if mirrored else texture
        texture = np.ascontiguousarray(texture[::-1, ::-1] if fit.turned else texture)
        shift = 2 * fit.shift[0], 2 * fit.shift[1]
        return fit.value, agreement(self._fine_of(one), texture, shift)
