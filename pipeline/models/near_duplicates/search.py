"""Near-duplicates of a whole set: candidates by their spectra, then a test of each pair.

Which agreement is too much to be chance, the set itself tells: the threshold is far above what
random pairs of its images have. So aligned parts, whose photos all agree a little, are kept apart.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.models.near_duplicates.compare import Comparer
from pipeline.models.near_duplicates.spectra import candidates
from pipeline.models.near_duplicates.store import Thumbnails
from pipeline.models.near_duplicates.thumbnails import Grey, View, thumbnail, views_of
from pipeline.runners import Runner, map_items
from pipeline.runtime.progress import track
from pipeline.types import ImageRecord

_RANDOM_PAIRS = 300  # whose agreement is the set's own
_LEAST_PAIRS = 20  # under which a set tells nothing
_FEW = 0.6  # the threshold of such a set
_LOWEST, _HIGHEST = 0.3, 0.75  # the threshold of any other
_DEVIATIONS = 6.0  # of random pairs, between their median and the threshold
_LIKE_DEVIATIONS, _FIT_DEVIATIONS = 1.0, 2.0  # of pairs that are compared at all
_Q90 = 1.2816  # standard deviations from the median of a normal distribution to its 90 % quantile
_MOST_PAIRS, _MOST_OF_IMAGE = 2000, 3  # that are compared: so many, and more for each image


@dataclass(frozen=True)
class Pair:
    """Two near-duplicates: the numbers of their records, the smaller first, and how much of their
    texture agrees, in [0, 1]."""

    one: int
    other: int
    agreement: float


@dataclass(frozen=True)
class NearDuplicates:
    """pairs: sorted. threshold: the least agreement of a pair. unreadable: numbers of the records
    whose file cannot be decoded. compared: pairs that were looked at pixel by pixel."""

    pairs: tuple[Pair, ...]
    threshold: float
    unreadable: tuple[int, ...]
    compared: int


def find_near_duplicates(
    records: Sequence[ImageRecord], runner: Runner = "local", workers: int = 0
) -> NearDuplicates:
    """The near-duplicates among the images of a set.

    Thumbnails lie in temporary files, about 20 kB an image; memory grows by 5 kB an image. The same
    images give the same pairs. runner, workers: of the reading; see `map_items`.
    """
    views = views_of(records)
    with tempfile.TemporaryDirectory(prefix="pipeline-") as folder:
        store = Thumbnails(views, Path(folder))
        with closing(map_items(_thumbnail, views, runner, workers)) as done:
            unreadable = store.fill(track(done, "look for duplicates", len(views)))
        if len(store.kept) < 2:
            return NearDuplicates((), 1.0, unreadable, 0)
        pairs, threshold, compared = compare_all(store)
    return NearDuplicates(pairs, threshold, unreadable, compared)


def _thumbnail(view: View) -> Grey | None:
    try:
        return thumbnail(view)
    except DataError:
        return None  # the image is named as unreadable


def compare_all(store: Thumbnails) -> tuple[tuple[Pair, ...], float, int]:
    """The near-duplicates among thumbnails, their least agreement, and how many pairs were
    compared."""
    comparer = Comparer(store)
    spectra = comparer.spectra()
    near, likeness = candidates(spectra)
    rows = np.array(store.kept)
    random = _random_pairs(len(rows))
    usual = np.einsum("nd,nd->n", spectra[random[:, 0], 0], spectra[random[:, 1], 0])
    null = comparer.scores(_of_rows(random, rows), -np.inf)
    threshold = threshold_of(null[:, 1])
    others = null[:, 1] < _HIGHEST
    likely = _most_alike(likeness, _above(usual[others], _LIKE_DEVIATIONS), len(rows))
    images = np.array([view.image for view in store.views])
    chosen = _of_rows(near[likely], rows)
    chosen = chosen[images[chosen[:, 0]] != images[chosen[:, 1]]]
    agreements = comparer.scores(chosen, _above(null[others, 0], _FIT_DEVIATIONS))[:, 1]
    alike = agreements >= threshold
    pairs = _pairs(images[chosen[alike, :2]], agreements[alike])
    return pairs, threshold, len(chosen)


def _of_rows(pairs: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs (P, 3) of numbers among `rows` as pairs of rows."""
    return np.asarray(np.c_[rows[pairs[:, :2]], pairs[:, 2]], np.int64)


def _most_alike(likeness: NDArray[np.float32], least: float, count: int) -> NDArray[np.int64]:
    """The numbers of the pairs (P,) that are worth a comparison among `count` images: in their old
    order, so that textures of neighbours are still in memory."""
    order = np.argsort(-likeness, kind="stable")[: _MOST_PAIRS + _MOST_OF_IMAGE * count]
    return np.sort(order[likeness[order] >= least])


def _pairs(images: NDArray[np.int64], agreements: NDArray[np.float64]) -> tuple[Pair, ...]:
    """The pairs of images (P, 2), each once, with its best agreement (P,)."""
    best: dict[tuple[int, int], float] = {}
    for (one, other), value in zip(np.sort(images, axis=1).tolist(), agreements, strict=True):
        best[one, other] = max(best.get((one, other), 0.0), float(value))
    return tuple(Pair(*key, best[key]) for key in sorted(best))


def _random_pairs(count: int) -> NDArray[np.int64]:
    """(P, 3) int64: different pairs of `count` thumbnails, none mirrored; all, if they are few."""
    whole = count * (count - 1) // 2
    if whole <= _RANDOM_PAIRS:
        one, other = np.triu_indices(count, 1)
    else:
        drawn = np.random.default_rng(0).integers(0, count, (2, 2 * _RANDOM_PAIRS))
        one, other = np.unique(np.sort(drawn[:, drawn[0] != drawn[1]], axis=0), axis=1)
        kept = np.linspace(0, len(one) - 1, min(_RANDOM_PAIRS, len(one))).round().astype(np.int64)
        one, other = one[kept], other[kept]
    return np.stack([one, other, np.zeros_like(one)], axis=1).astype(np.int64)


def threshold_of(by_chance: NDArray[np.float64]) -> float:
    """The agreement from which a pair is one object, from that of random pairs (P,).

    Six standard deviations above their median, as their upper half tells them, but 0.3 at least.
    From 0.75 on, a pair is one object in any set: those random pairs are left out, so that a set
    of few objects does not hide its own duplicates.
    """
    others = by_chance[by_chance < _HIGHEST]
    if len(others) < _LEAST_PAIRS:
        return _FEW if len(by_chance) < _LEAST_PAIRS else _HIGHEST
    return float(np.clip(_above(others, _DEVIATIONS), _LOWEST, _HIGHEST))


def _above(values: NDArray[np.floating], deviations: float) -> float:
    """So many standard deviations above the median, as the upper half of the values tells them;
    without values, nothing is above."""
    if len(values) < _LEAST_PAIRS:
        return -np.inf
    median, high = np.quantile(values, (0.5, 0.9))
    return float(median + deviations * (high - median) / _Q90)
