"""Which images to label next: those that would teach a labeller most.

An image teaches where its labels are doubtful, and where it is unlike those that are known. Both
count at once: doubtful images that resemble each other teach the same, and an unlike image whose
labels are right teaches nothing (compare Ash et al., "Deep Batch Active Learning by Diverse,
Uncertain Gradient Lower Bounds", ICLR 2020, and Sener and Savarese, ICLR 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.models.segmentation.defect_map import FULL, DefectMap
from pipeline.types import EXPECTED_IOU, PROBABILITY, Detections

_LEAST = 0.02  # doubt of an image of which nothing is doubtful
_MOST_UNLIKE = 3.0  # times the usual distance to the nearest known image
_SMALL = 100.0  # pixels: so small a defect as would be a miss


@dataclass(frozen=True)
class Doubt:
    """What may be wrong with the labels of one image. missed: the probability that a defect has no
    label. worst: of the labels, the least expected IoU (of one that is not calibrated, its score);
    None without a label. share: how probable it is that there is something to correct, in [0, 1].
    labels: how many there are."""

    missed: float
    worst: float | None
    share: float
    labels: int

    @property
    def worth(self) -> float:
        """The doubt for each mask that a person would look at, and half of one for what may be
        missing: an image of many labels takes the time of several others."""
        return self.share / (self.labels + 0.5)


def doubt_of(labels: Detections, missed: float | None, found: DefectMap) -> Doubt:
    """The doubt of an image's labels. missed: as the labeller says it; None takes the share of the
    map that is neither defect nor good. found: the segmenter's map."""
    trust = labels.quality.get(EXPECTED_IOU, labels.quality.get(PROBABILITY, labels.scores))
    known = np.zeros(0) if trust is None else np.asarray(trust, np.float64)
    unclear = _unclear(found)
    own = unclear if missed is None else missed
    share = 1 - (1 - own) * float(np.prod(known)) if len(known) else own
    share = max(share, unclear)
    worst = float(known.min()) if len(known) else None
    return Doubt(own, worst, min(max(share, _LEAST), 1.0), len(labels))


def _unclear(found: DefectMap) -> float:
    """The expected share of wrong pixels, were the map cut at a half."""
    counts = np.bincount(found.defect.ravel(), minlength=FULL + 1)
    values = np.arange(FULL + 1) / FULL
    clear = values > 0.05  # below is the noise of good surface
    wrong = float((counts * np.minimum(values, 1 - values))[clear].sum())
    likely = float((counts * values)[clear].sum())
    return min(wrong / (likely + _SMALL), 1.0)


@dataclass(frozen=True)
class Choice:
    """rows: of the chosen images, in order. unlike: by row of all images, the distance to the
    nearest known or chosen image when it was chosen, or at the end; 1 is usual."""

    rows: tuple[int, ...]
    unlike: NDArray[np.float64]


def choose(
    worths: NDArray[np.float64], vectors: NDArray[np.float32], known: NDArray[np.float32],
    count: int,
) -> Choice:  # fmt: skip
    """Choose images one after the other: each time the one with the largest worth times distance to
    what is known or chosen.

    worths: (N,), see `Doubt`. vectors: (N, D), known: (M, D), as `embed` makes them. count: at most
    N are chosen. A distance counts in units of the usual one between a new and a known image.
    """
    nearest = _to_nearest(vectors, known) if len(known) else np.full(len(vectors), np.inf)
    finite = nearest[np.isfinite(nearest)]
    usual = max(float(np.median(finite)) if len(finite) else 1.0, 1e-9)
    unlike, left = np.zeros(len(vectors)), np.ones(len(vectors), bool)
    rows: list[int] = []
    for _ in range(min(count, len(vectors))):
        apart = np.minimum(nearest / usual, _MOST_UNLIKE)
        value = np.where(left, worths * apart, -1.0)
        row = int(value.argmax())
        rows.append(row)
        left[row], unlike[row] = False, apart[row]
        nearest = np.minimum(nearest, _to_nearest(vectors, vectors[row : row + 1]))
    unlike[left] = np.minimum(nearest / usual, _MOST_UNLIKE)[left]
    return Choice(tuple(rows), unlike)


def _to_nearest(vectors: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) distance of each vector to the nearest of `others`."""
    squares = (vectors**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None]
    apart = np.maximum(squares - 2 * vectors @ others.T, 0).min(axis=1)
    return np.asarray(np.sqrt(apart), np.float64)
