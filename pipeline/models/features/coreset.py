"""The greedy coreset: few vectors, so that none of the others is far from all of them.

Sener and Savarese, "Active Learning for CNNs: A Core-Set Approach", ICLR 2018, as PatchCore uses it
(Roth et al. 2022, algorithm 1).
"""

from __future__ import annotations

import torch

from pipeline.runtime.progress import track

_POOL = 16  # one of so many vectors could be the farthest before all are looked at again
_ROWS = 1 << 15  # whose distances are made at once
_PROJECTED = 128  # dimensions, as in the authors' code


def greedy_coreset(vectors: torch.Tensor, count: int, seed: int = 0) -> torch.Tensor:
    """Indices (count,) of vectors (N, D) float32: each is the farthest from all before it, the
    first is drawn by `seed`.

    The same choice as the textbook's, which looks at every vector after each step. Distances only
    shrink, so as long as the farthest of a pool of candidates is farther than any vector outside
    was when last looked at, it is the farthest of all; then the steps since are made good for all
    vectors at once, as one product of matrices.
    """
    total = len(vectors)
    count = min(count, total)
    if count <= 0:
        return torch.zeros(0, dtype=torch.long)
    points = vectors - vectors.mean(dim=0)  # nearer to 0, squares lose less
    squares = (points * points).sum(dim=1)
    first = int(torch.randint(total, (1,), generator=torch.Generator().manual_seed(seed)))
    chosen = [first]
    distance = torch.full((total,), float("inf"))
    known = 0
    bar = iter(track(range(count - 1), "coreset"))
    while len(chosen) < count:
        _shrink(distance, points, squares, torch.tensor(chosen[known:]))
        known = len(chosen)
        size = min(total, max(count - known, total // _POOL) + 1)
        bound, candidates = distance.topk(size)
        outside = float(bound[-1]) if size < total else -1.0
        near, own = points[candidates], squares[candidates]
        left = bound
        while len(chosen) < count:
            at = int(left.argmax())
            if float(left[at]) < outside:
                break
            chosen.append(int(candidates[at]))
            next(bar, None)
            apart = own + own[at] - 2 * (near @ near[at])
            left = torch.minimum(left, apart.clamp_(min=0))
            left[at] = -1.0
        distance[chosen[known:]] = -1.0
    for _ in bar:
        pass
    return torch.tensor(chosen)


def _shrink(
    distance: torch.Tensor, points: torch.Tensor, squares: torch.Tensor, centres: torch.Tensor
) -> None:
    """Make `distance` (N,) the square of the nearest of the centres too, in place."""
    near, own = points[centres], squares[centres]
    for start in range(0, len(points), _ROWS):
        rows = slice(start, start + _ROWS)
        apart = torch.addmm(own[None], points[rows], near.T, alpha=-2).amin(dim=1)
        torch.minimum(distance[rows], (apart + squares[rows]).clamp_(min=0), out=distance[rows])
    distance[centres] = -1.0


def projected(vectors: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """(N, D) of any float to (N, at most 128) float32 by a random projection, which keeps distances
    about as they are (Johnson and Lindenstrauss 1984)."""
    size = vectors.shape[1]
    if size <= _PROJECTED:
        return vectors.float()
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, _PROJECTED, generator=generator) / _PROJECTED**0.5
    parts = [vectors[n : n + _ROWS].float() @ matrix for n in range(0, len(vectors), _ROWS)]
    return torch.cat(parts)
