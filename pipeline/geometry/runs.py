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
    codes = np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.int64) - 48
    ends = np.cumsum([len(text) for text in texts])
    if not all(texts) or codes.min(initial=0) < 0 or codes.max(initial=0) > 63:
        return None
    last = np.flatnonzero((codes & 32) == 0)  # the last character of each run
    first_run = np.concatenate([[0], np.searchsorted(last, ends)])
    if not len(last) or (last[first_run[1:] - 1] != ends - 1).any():
        return None
    first = np.concatenate([[0], last[:-1] + 1])
    if int((last - first).max()) >= _LONGEST_RUN:
        return None
    place = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    values = np.add.reduceat((codes & 31) << (5 * place), first)
    values -= np.where((codes[last] & 16) != 0, 1 << (5 * (last - first + 1)), 0)
    number = np.arange(len(last)) - np.repeat(first_run[:-1], np.diff(first_run))
    for least in (1, 2):  # the runs of each parity are sums; the first run of all is its own
        rows = np.flatnonzero((number >= least) & (number % 2 == least % 2))
        values[rows] = _sums_from(values[rows], number[rows] == least)
    return values, first_run


def cover(texts: Sequence[bytes], pixels: int) -> bool:
    """Whether each text is compressed counts whose runs cover exactly so many pixels."""
    if not texts:
        return True
    found = run_lengths(texts)
    if found is None or bool((found[0] < 0).any()):
        return False
    return bool((np.add.reduceat(found[0], found[1][:-1]) == pixels).all())


def areas(rles: Sequence[Rle]) -> Ints:
    """The number of pixels of each mask, (N,)."""
    if not rles:
        return np.zeros(0, np.int64)
    lengths, first_run = _valid_lengths(rles)
    number = np.arange(len(lengths)) - np.repeat(first_run[:-1], np.diff(first_run))
    return np.asarray(np.add.reduceat(np.where(number % 2 == 1, lengths, 0), first_run[:-1]))


def count_shapes(rles: Sequence[Rle]) -> ShapeCounts:
    """Pixels, parts and holes of masks of one size, as `patches.count_parts_and_holes` counts them.

    The pieces of runs in each column are the nodes of a graph; its edges are pieces that touch in
    neighbouring columns. Its components are the parts. As three pieces never touch each other,
    parts - holes = nodes - edges (Euler's formula).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not rles:
        none = np.zeros(0, np.int64)
        return ShapeCounts(none, none, none)
    width = rles[0]["size"][1]
    pieces = _pieces(rles)
    count = len(pieces.column)
    left, right = _touching(pieces, *rles[0]["size"])
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
    _, part = connected_components(graph, directed=False)
    owner = pieces.column // width
    _, first = np.unique(part, return_index=True)
    nodes, edges, parts = (
        np.bincount(owner[rows], minlength=len(rles)) for rows in (slice(None), left, first)
    )
    return ShapeCounts(areas(rles), parts, parts - nodes + edges)


def _pieces(rles: Sequence[Rle]) -> _Pieces:
    height = rles[0]["size"][0]
    lengths, first_run = _valid_lengths(rles)
    ends = np.cumsum(lengths)
    number = np.arange(len(lengths)) - np.repeat(first_run[:-1], np.diff(first_run))
    rows = np.flatnonzero((number % 2 == 1) & (lengths > 0))
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
    found = run_lengths([rle["counts"] for rle in rles])
    if found is None:
        raise ValueError("a mask's counts are not COCO's compressed runs")
    return found


def _sums_from(values: Ints, starts: NDArray[np.bool_]) -> Ints:
    """Running sums (M,) that begin again at each of `starts`."""
    sums = np.cumsum(values)
    at = np.flatnonzero(starts)
    base = sums[at] - values[at]
    return np.asarray(sums - np.repeat(base, np.diff(np.append(at, len(values)))))
