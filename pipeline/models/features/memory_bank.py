"""Exact nearest neighbours among many vectors, with faiss.

Features of neighbouring pixels vary in few directions. So a bank of many long vectors is searched
in two steps. The first searches in the principal directions, plus the length of the remainder: this
gives a lower bound of each distance. The second measures the few candidates in full. Where the
bounds do not prove that the nearest is a candidate, the query is searched in full. The result is
always exact.
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
_LEAST_VECTORS, _LEAST_LENGTH = 8192, 512  # from which on two steps can be faster
_DIRECTIONS, _SAMPLE = 192, 4096  # principal directions, and vectors to fit them
_CANDIDATES = 32  # of each query
_TRIALS = 64  # stored vectors as queries, to test whether two steps are faster
_LEAST_SETTLED = 0.5  # share of the trials that candidates alone must settle
_ROUNDING = 2e-5  # of squared lengths: worst case of 192 float32 products
_PAIRS = 8192  # differences in memory at once


class MemoryBank:
    """Vectors (N, D) float32 for nearest-neighbour search; N >= 1."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        self._index = _flat(self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Vectors, count: int = 1) -> tuple[Vectors, Rows]:
        """The nearest vectors to queries (Q, D), nearest first.

        Returns Euclidean distances float32 and indices int64, both (Q, K): K is `count`, or N if
        that is less.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        principal = self._principal if 4 * count <= _CANDIDATES else None
        if principal is None:
            _, nearest = self._index.search(queries, min(count, len(self)))
        else:
            nearest, exact = self._search_candidates(principal, queries, count)
            if not exact.all():
                rest = np.ascontiguousarray(queries[~exact])
                nearest[~exact] = self._index.search(rest, count)[1]
        rows = np.repeat(np.arange(len(queries)), nearest.shape[1])
        squares = self._squares(queries, rows, nearest.ravel()).reshape(nearest.shape)
        return np.sqrt(squares), nearest

    @cached_property
    def _principal(self) -> _PrincipalDirections | None:
        """The first step's index; None where it settles too few of the trials to be faster."""
        if len(self) < _LEAST_VECTORS or self.vectors.shape[1] < _LEAST_LENGTH:
            return None
        principal = _PrincipalDirections.fit(self.vectors)
        queries = self.vectors[:: len(self) // _TRIALS][:_TRIALS]
        _, exact = self._search_candidates(principal, queries, 2)  # the first is the vector itself
        return principal if exact.mean() >= _LEAST_SETTLED else None

    def _search_candidates(
        self, principal: _PrincipalDirections, queries: Vectors, count: int
    ) -> tuple[Rows, NDArray[np.bool_]]:
        """Indices (Q, count) of the nearest candidates, and whether (Q,) no other vector can be
        nearer."""
        short = principal.project(queries)
        bounds, candidates = principal.index.search(short, _CANDIDATES)
        slack = _ROUNDING * ((short**2).sum(axis=1) + principal.longest)
        first = np.repeat(np.arange(len(queries)), count)
        squares = np.full(bounds.shape, np.inf, np.float32)
        squares[:, :count] = self._squares(queries, first, candidates[:, :count].ravel()).reshape(
            -1, count
        )
        # Only candidates whose lower bound is within the nearest so far are measured in full.
        reach = squares[:, :count].max(axis=1) + slack
        rows, columns = np.nonzero(bounds[:, count:] <= reach[:, None])
        columns += count
        squares[rows, columns] = self._squares(queries, rows, candidates[rows, columns])
        order = np.argsort(squares, axis=1, kind="stable")[:, :count]
        worst = np.take_along_axis(squares, order[:, -1:], axis=1)[:, 0]
        return np.take_along_axis(candidates, order, axis=1), bounds[:, -1] > worst + slack

    def _squares(self, queries: Vectors, rows: Rows, columns: Rows) -> Vectors:
        """Squared distances (P,) of pairs: a row of `queries`, a column's vector of the bank.

        From differences, so that the distance of a vector to itself is exactly 0.
        """
        squares = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _PAIRS):
            part = slice(start, start + _PAIRS)
            apart = queries[rows[part]]
            apart -= self.vectors[columns[part]]
            squares[part] = np.einsum("pd,pd->p", apart, apart)
        return squares


@dataclass(frozen=True)
class _PrincipalDirections:
    """The vectors along their principal directions, and the length of what remains.

    centre: (D,). directions: (D, _DIRECTIONS), orthonormal. index: the projected vectors. longest:
    the largest squared length of a projected vector.
    """

    centre: Vectors
    directions: Vectors
    index: faiss.IndexFlatL2
    longest: float

    @classmethod
    def fit(cls, vectors: Vectors) -> _PrincipalDirections:
        """Principal directions of a sample, and an index of all vectors (N, D)."""
        centre = vectors.mean(axis=0)
        sample = vectors[:: max(len(vectors) // _SAMPLE, 1)] - centre
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            directions = torch.pca_lowrank(torch.from_numpy(sample), _DIRECTIONS, center=False)[2]
        empty = _flat(np.zeros((0, _DIRECTIONS + 1), np.float32))
        principal = cls(centre, directions.numpy(), empty, 0.0)
        short = np.concatenate(
            [principal.project(vectors[at : at + _PAIRS]) for at in range(0, len(vectors), _PAIRS)]
        )
        empty.add(short)
        return replace(principal, longest=float((short**2).sum(axis=1).max()))

    def project(self, vectors: Vectors) -> Vectors:
        """(N, D) to (N, _DIRECTIONS + 1). Distances never grow: they are lower bounds."""
        centred = vectors - self.centre
        along = centred @ self.directions
        centred -= along @ self.directions.T  # a difference of lengths would lose digits
        return np.concatenate([along, np.linalg.norm(centred, axis=1, keepdims=True)], axis=1)


def _flat(vectors: Vectors) -> faiss.IndexFlatL2:
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    return index
