"""Greedy coreset: a few vectors, so that every other vector is near one of them.

Sener and Savarese, "Active Learning for CNNs: A Core-Set Approach", ICLR 2018, as PatchCore uses it
(Roth et al. 2022, algorithm 1).
"""

from __future__ import annotations

import torch

from pipeline.runtime.progress import track

_POOL = 16  # one of 16 vectors is a candidate between two updates of all distances
_ROWS = 1 << 15  # vectors in one product of matrices
_PROJECTED = 128  # dimensions, as in the code of PatchCore's authors


def greedy_coreset(vectors: torch.Tensor, count: int, seed: int = 0) -> torch.Tensor:
    """Indices (count,) int64 of vectors (N, D) float32, in the order of their choice.

    The first is random, by `seed`; each next one is the farthest from those before it. At most N
    are returned.

    The choice is that of the textbook's algorithm, which updates all N distances after each step.
    Here a step updates a pool of candidates alone. Distances never grow. So while the farthest
    candidate is farther than every other vector was at the last full update, it is the farthest
    of all. After that, one product of matrices updates all distances.
    """
    total = len(vectors)
    count = min(count, total)
    if count <= 0:
        return torch.zeros(0, dtype=torch.long)
    points = vectors - vectors.mean(dim=0)  # short vectors: their squares round less
    squares = (points * points).sum(dim=1)
    first = int(torch.randint(total, (1,), generator=torch.Generator().manual_seed(seed)))
    centres = [first]
    distance = torch.full((total,), float("inf"))
    updated = 0  # centres that all distances include
    bar = iter(track(range(count - 1), "coreset"))
    while len(centres) < count:
        _shrink(distance, points, squares, torch.tensor(centres[updated:]))
        updated = len(centres)
        size = min(total, max(count - updated, total // _POOL) + 1)
        apart, candidates = distance.topk(size)
        outside = float(apart[-1]) if size < total else -1.0
        pool, own = points[candidates], squares[candidates]
        while len(centres) < count:
            at = int(apart.argmax())
            if float(apart[at]) < outside:
                break
            centres.append(int(candidates[at]))
            next(bar, None)
            to_new = own + own[at] - 2 * (pool @ pool[at])
            apart = torch.minimum(apart, to_new.clamp_(min=0))
            apart[at] = -1.0
        distance[centres[updated:]] = -1.0
    for _ in bar:
        pass
    return torch.tensor(centres)


def _shrink(
    distance: torch.Tensor, points: torch.Tensor, squares: torch.Tensor, centres: torch.Tensor
) -> None:
    """Update `distance` (N,), squared, in place: no more than to the nearest of these centres."""
    centre_points, own = points[centres], squares[centres]
    for start in range(0, len(points), _ROWS):
        rows = slice(start, start + _ROWS)
        apart = torch.addmm(own[None], points[rows], centre_points.T, alpha=-2).amin(dim=1)
        torch.minimum(distance[rows], (apart + squares[rows]).clamp_(min=0), out=distance[rows])
    distance[centres] = -1.0


def projected(vectors: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Random projection of vectors (N, D) of any float type to (N, at most 128) float32.

    Distances change little (Johnson and Lindenstrauss 1984). Up to 128 dimensions stay as they are.
    """
    size = vectors.shape[1]
    if size <= _PROJECTED:
        return vectors.float()
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, _PROJECTED, generator=generator) / _PROJECTED**0.5
    parts = [vectors[n : n + _ROWS].float() @ matrix for n in range(0, len(vectors), _ROWS)]
    return torch.cat(parts)
