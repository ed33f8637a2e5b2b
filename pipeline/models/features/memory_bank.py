"""Exact nearest neighbours among many vectors, by faiss.

Features of neighbouring pixels vary in few directions. Where vectors are many and long, a search in
those directions alone, and in the length of all the rest, says from below how near each can be; the
few that could be nearest are then measured in full. A query for which that does not settle it is
searched for in full, so the answer is always the true nearest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
_FEWEST, _SHORTEST = 8192, 512  # vectors, and numbers of each, from which on it pays
_DIRECTIONS, _SAMPLE = 192, 4096
_CANDIDATES = 32
_ASKED = 64  # stored vectors by which it is tried whether it pays
_ROUNDING = 2e-5  # of squared lengths: worst case of 192 products in single precision
_PAIRS = 8192  # differences held at once


class MemoryBank:
    """Vectors (N, D) that can be searched; N >= 1."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        self._index = _flat(self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Vectors, count: int = 1) -> tuple[Vectors, Rows]:
        """Euclidean distances and indices (Q, at most `count`) of the nearest to queries (Q, D),
        the nearest first."""
        asked = np.ascontiguousarray(queries, np.float32)
        narrow = self._narrow if 4 * count <= _CANDIDATES else None
        if narrow is None:
            _, found = self._index.search(asked, min(count, len(self)))
        else:
            found, sure = self._narrowed(narrow, asked, count)
            if not sure.all():
                found[~sure] = self._index.search(np.ascontiguousarray(asked[~sure]), count)[1]
        rows = np.repeat(np.arange(len(asked)), found.shape[1])
        squares = self._squares(asked, rows, found.ravel()).reshape(found.shape)
        return np.sqrt(squares), found

    @cached_property
    def _narrow(self) -> _Narrow | None:
        """What a first search needs, if half of some stored vectors' nearest are settled by it."""
        if len(self) < _FEWEST or self.vectors.shape[1] < _SHORTEST:
            return None
        narrow = _Narrow.of(self.vectors)
        some = self.vectors[:: len(self) // _ASKED][:_ASKED]
        _, sure = self._narrowed(narrow, some, 2)  # the first is the vector itself
        return narrow if sure.mean() >= 0.5 else None

    def _narrowed(
        self, narrow: _Narrow, asked: Vectors, count: int
    ) -> tuple[Rows, NDArray[np.bool_]]:
        """Indices (Q, count) of the nearest among the candidates, and whether (Q,) none but these
        can be nearer."""
        short = narrow.shortened(asked)
        bounds, candidates = narrow.index.search(short, _CANDIDATES)
        slack = _ROUNDING * ((short**2).sum(axis=1) + narrow.longest)
        first = np.repeat(np.arange(len(asked)), count)
        squares = np.full(bounds.shape, np.inf, np.float32)
        squares[:, :count] = self._squares(asked, first, candidates[:, :count].ravel()).reshape(
            -1, count
        )
        reach = squares[:, :count].max(axis=1) + slack
        rows, columns = np.nonzero(bounds[:, count:] <= reach[:, None])
        columns += count
        squares[rows, columns] = self._squares(asked, rows, candidates[rows, columns])
        order = np.argsort(squares, axis=1, kind="stable")[:, :count]
        worst = np.take_along_axis(squares, order[:, -1:], axis=1)[:, 0]
        return np.take_along_axis(candidates, order, axis=1), bounds[:, -1] > worst + slack

    def _squares(self, asked: Vectors, rows: Rows, found: Rows) -> Vectors:
        """Squared distances (P,) of pairs of a query and a vector, from their differences: a vector
        is at 0 from itself."""
        squares = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _PAIRS):
            part = slice(start, start + _PAIRS)
            apart = asked[rows[part]]
            apart -= self.vectors[found[part]]
            squares[part] = np.einsum("pd,pd->p", apart, apart)
        return squares


@dataclass(frozen=True)
class _Narrow:
    """Vectors in the directions in which they vary most, and how far they are from these."""

    centre: Vectors
    directions: Vectors  # (D, _DIRECTIONS), orthonormal
    index: faiss.IndexFlatL2
    longest: float  # squared, of the shortened vectors

    @classmethod
    def of(cls, vectors: Vectors) -> _Narrow:
        centre = vectors.mean(axis=0)
        sample = vectors[:: max(len(vectors) // _SAMPLE, 1)] - centre
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found = torch.pca_lowrank(torch.from_numpy(sample), _DIRECTIONS, center=False)[2]
        made = cls(centre, found.numpy(), _flat(np.zeros((0, _DIRECTIONS + 1), np.float32)), 0.0)
        short = np.concatenate(
            [made.shortened(vectors[at : at + _PAIRS]) for at in range(0, len(vectors), _PAIRS)]
        )
        made.index.add(short)
        return replace(made, longest=float((short**2).sum(axis=1).max()))

    def shortened(self, vectors: Vectors) -> Vectors:
        """(N, _DIRECTIONS + 1), of which no two are farther apart than the vectors (N, D) are."""
        centred = vectors - self.centre
        along = centred @ self.directions
        centred -= along @ self.directions.T  # the lengths' difference would lose digits
        return np.concatenate([along, np.linalg.norm(centred, axis=1, keepdims=True)], axis=1)


def _flat(vectors: Vectors) -> faiss.IndexFlatL2:
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    return index
