"""Exact nearest neighbours among many vectors, by faiss."""

from __future__ import annotations

import faiss
import numpy as np
import torch
from numpy.typing import NDArray


class MemoryBank:
    """Vectors (N, D) that can be searched; N >= 1."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        faiss.omp_set_num_threads(torch.get_num_threads())
        self._index = faiss.IndexFlatL2(self.vectors.shape[1])
        self._index.add(self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(
        self, queries: NDArray[np.float32], count: int = 1
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Euclidean distances and indices (Q, at most `count`) of the nearest to queries (Q, D),
        the nearest first."""
        asked = np.ascontiguousarray(queries, np.float32)
        squares, found = self._index.search(asked, min(count, len(self)))
        return np.sqrt(np.maximum(squares, 0)), found
