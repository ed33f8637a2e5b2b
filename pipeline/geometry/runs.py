"""Many RLEs of one image at once: their runs, and what the runs say of their shapes.

For small masks a call of numpy takes longer than its work. One call for all masks of an image is
some fifty times faster than one for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.masks import Rle

Ints = NDArray[np.int64]
_LONGEST_RUN = 7  # characters of one count: 35 bits


class ShapeCounts(NamedTuple):
    """The pixels, the 8-connected parts and the holes (4-connected background) of each mask, (N,)
    each."""

    area: Ints
    parts: Ints
    holes: Ints


class _Pieces(NamedTuple):
    """The pieces of runs inside one column each, (P,). column: counted over all masks of an image,
    laid side by side. start, end: rows, half-open."""

    column: Ints
    start: Ints
    end: Ints


def run_lengths(texts: Sequence[bytes]) -> tuple[Ints, Ints] | None:
    """The run lengths of COCO's compressed counts, one text after another, and where each text's
    runs start: (R,), (N + 1,). None for a text that is not such counts.

    maskApi.c, rleFrString: groups of 5 bits, lowest first; from the fourth run on, the difference
    to the run two places before.
    """
    codes = np.frombuffer(b"".join(texts), dtype=np.uint8) - np.uint8(48)  # 0 to 63
    ends = np.cumsum([len(text) for text in texts])
    if not all(texts) or codes.max(initial=0) > 63:
        return None
    last = np.flatnonzero(codes < 32)  # the last character of each run
    first_run = np.concatenate([[0], np.searchsorted(last, ends)])
    if not len(last) or (last[first_run[1:] - 1] != ends - 1).any():
        return None
    first = np.concatenate([[0], last[:-1] + 1])
    size = last - first + 1
    longest = int(size.max())
    if longest > _LONGEST_RUN:
        return None
    values = (codes[first] & 31).astype(np.int64)
    for place in range(1, longest):
        rows = np.flatnonzero(size > place)
        values[rows] += (codes[first[rows] + place] & 31).astype(np.int64) << 5 * place
    negative = np.flatnonzero(codes[last] & 16)
    values[negative] -= 1 << 5 * size[negative]
    number = _numbers(first_run)
    for least in (1, 2):  # the runs of each parity are sums; the first run of all is its own
        rows = np.flatnonzero((number >= least) & (number & 1 == least & 1))
        values[rows] = _sums_from(values[rows], number[rows] == least)
    return values, first_run


def cover(texts: Sequence[bytes], pixels: int) -> bool:
    """Whether each text is compressed counts whose runs cover exactly so many pixels."""
    if not texts:
        return True
    runs = run_lengths(texts)
    if runs is None or bool((runs[0] < 0).any()):
        return False
    return bool((np.add.reduceat(runs[0], runs[1][:-1]) == pixels).all())


def areas(rles: Sequence[Rle]) -> Ints:
    """The number of pixels of each mask, (N,)."""
    return _areas(*_valid_lengths(rles)) if rles else np.zeros(0, np.int64)


def count_shapes(rles: Sequence[Rle]) -> ShapeCounts:
    """Pixels, parts and holes of masks of one size, as `patches.count_parts_and_holes` counts them.

    The pieces of runs in each column are the nodes of a graph; its edges are pieces that touch in
    neighbouring columns. Its components are the parts. As three pieces never touch each other,
    parts - holes = nodes - edges (Euler's formula).
    """
    if not rles:
        none = np.zeros(0, np.int64)
        return ShapeCounts(none, none, none)
    height, width = rles[0]["size"]
    lengths, first_run = _valid_lengths(rles)
    pieces = _pieces(lengths, first_run, height)
    left, right = _touching(pieces, height, width)
    owner = pieces.column // width
    nodes, edges = (np.bincount(rows, minlength=len(rles)) for rows in (owner, owner[left]))
    has_left = np.zeros(len(owner), dtype=bool)
    has_left[right] = True
    parts = np.bincount(owner[~has_left], minlength=len(rles))
    if (parts > 1).any():  # pieces without a neighbour on the left may still be of one part
        parts = np.bincount(owner[_first_of_parts(len(owner), left, right)], minlength=len(rles))
    return ShapeCounts(_areas(lengths, first_run), parts, parts - nodes + edges)


def _first_of_parts(count: int, left: Ints, right: Ints) -> Ints:
    """The first node of each component of a graph of `count` nodes."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
    number, part = connected_components(graph, directed=False)
    first = np.zeros(number, np.int64)
    first[part[::-1]] = np.arange(count)[::-1]  # of several values the last stays
    return first


def _areas(lengths: Ints, first_run: Ints) -> Ints:
    number = _numbers(first_run)
    return np.asarray(np.add.reduceat(np.where(number & 1 == 1, lengths, 0), first_run[:-1]))


def _pieces(lengths: Ints, first_run: Ints, height: int) -> _Pieces:
    ends = np.cumsum(lengths)
    number = _numbers(first_run)
    rows = np.flatnonzero((number & 1 == 1) & (lengths > 0))
    start, end = ends[rows] - lengths[rows], ends[rows]
    apart = start[1:] != end[:-1]  # a background run of no pixel joins its neighbours
    start, end = start[np.r_[True, apart][: len(rows)]], end[np.r_[apart, True][: len(rows)]]
    columns = (end - 1) // height - start // height + 1
    of = np.repeat(np.arange(len(start)), columns)
    step = np.arange(len(of)) - np.repeat(np.cumsum(columns) - columns, columns)
    column = start[of] // height + step
    top = np.maximum(start[of], column * height) - column * height
    return _Pieces(column, top, np.minimum(end[of], (column + 1) * height) - column * height)


def _touching(pieces: _Pieces, height: int, width: int) -> tuple[Ints, Ints]:
    """The pairs (left, right) of pieces in neighbouring columns of one mask that share a side or a
    corner."""
    stride = height + 2
    next_column = (pieces.column + 1) * stride
    low = np.searchsorted(pieces.column * stride + pieces.end, next_column + pieces.start)
    high = np.searchsorted(
        pieces.column * stride + pieces.start, next_column + pieces.end, side="right"
    )
    count = np.where((pieces.column + 1) % width == 0, 0, high - low)
    left = np.repeat(np.arange(len(count)), count)
    right = low[left] + np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count)
    return left, right


def _valid_lengths(rles: Sequence[Rle]) -> tuple[Ints, Ints]:
    runs = run_lengths([rle["counts"] for rle in rles])
    if runs is None:
        raise ValueError("a mask's counts are not COCO's compressed runs")
    return runs


def _numbers(first_run: Ints) -> Ints:
    """The number of each run in its text, from 0."""
    return np.asarray(np.arange(first_run[-1]) - np.repeat(first_run[:-1], np.diff(first_run)))


def _sums_from(values: Ints, starts: NDArray[np.bool_]) -> Ints:
    """Running sums (M,) that begin again at each of `starts`."""
    sums = np.cumsum(values)
    at = np.flatnonzero(starts)
    base = sums[at] - values[at]
    return np.asarray(sums - np.repeat(base, np.diff(np.append(at, len(values)))))
