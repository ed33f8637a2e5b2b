"""How good the labels are that nobody has reviewed yet: a lower bound, from those that were.

A queue that is reviewed with the least trusted first leaves the more trusted ones. If labels of
more trust are right at least as often, then the share of right ones among those left is at least
that among the reviewed ones below them. Of these, the most trusted count, and the bound is the
exact one of Clopper and Pearson (Biometrika 26, 1934).

Only a calibrated expected IoU is such a trust. SAM's own rating is not: on drawn zippers the bound
from it failed in a quarter of the sets. Then nothing is claimed.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.review.schema import ACCEPTED, CHANGED, REJECTED, UNREVIEWED
from pipeline.review.store import ReviewStore
from pipeline.review.tables import SavedObject

RIGHT_IOU = 0.8  # a label whose mask a person leaves within this IoU was right
_LEVEL = 0.95  # of the bound
_MOST = 300  # reviewed labels that count
_GOALS = (0.9, 0.95, 0.99)
_SELECT = "SELECT id, state, expected_iou FROM objects WHERE value IS NOT NULL"


@dataclass(frozen=True)
class Remaining:
    """left: labels that nobody reviewed. lower: of the share of right ones among them, at 95 %;
    None where nothing is known. judged: reviewed labels that it comes from, of which `right`
    were right. goal, more: with so many more that are right, the bound is the goal."""

    left: int
    lower: float | None = None
    judged: int = 0
    right: int = 0
    goal: float | None = None
    more: int | None = None


class RightLabels:
    """Which reviewed labels were right: an IoU is computed once for each change."""

    def __init__(self, store: ReviewStore) -> None:
        self._store = store
        self._known: dict[int, tuple[int, bool]] = {}

    def remaining(self) -> Remaining:
        """What is known of the labels that are left."""
        rows = self._store.rows(_SELECT)
        columns = np.array(rows, np.float64).reshape(-1, 3)
        state, trust = columns[:, 1], columns[:, 2]
        judged = np.isin(state, (ACCEPTED, CHANGED, REJECTED)) & ~np.isnan(trust)
        right = [self._is_right(int(id_), int(code)) for id_, code, _ in columns[judged]]
        return bound(trust[state == UNREVIEWED], trust[judged], np.array(right, bool))

    def _is_right(self, id_: int, state: int) -> bool:
        if state != CHANGED:
            return state == ACCEPTED
        saved = self._store.object_by_id(id_)
        if id_ not in self._known or self._known[id_][0] != saved.revision:
            size = self._store.image(saved.image).size
            self._known[id_] = saved.revision, _kept_iou(saved, size) >= RIGHT_IOU
        return self._known[id_][1]


def _kept_iou(saved: SavedObject, size: tuple[int, int]) -> float:
    """The IoU of an object's masks before and after; of boxes, where it had no mask, 0."""
    if saved.original is None or saved.value is None:
        return 0.0
    before, after = saved.original.rle(size), saved.value.rle(size)
    return 0.0 if before is None or after is None else mask_geometry.paired_iou(before, after)


def bound(
    left: NDArray[np.float64], judged: NDArray[np.float64], right: NDArray[np.bool_]
) -> Remaining:
    """left, judged: (N,), (M,) the trust of labels; NaN is the least. right: (M,) bool.

    Labels that were passed over (less trusted than a judged one) may count as wrong, or the judged
    ones above them may be left out; the better of the two bounds is taken, each at half the risk.
    """
    count = len(left)
    if not count or not len(judged) or np.isnan(left).all():
        return Remaining(count)
    known = np.where(np.isnan(left), -np.inf, left)
    order = np.argsort(judged, kind="stable")
    judged, right = judged[order], right[order]
    options = []
    for limit in {float(known.min()), float(judged.max())}:
        below = right[judged <= limit][-_MOST:]
        share = float((known >= limit).mean())
        if len(below):
            lower = share * clopper_pearson(int(below.sum()), len(below), (1 - _LEVEL) / 2)
            options.append((lower, len(below), int(below.sum()), share))
    if not options:
        return Remaining(count)
    lower, size, good, share = max(options)
    goals = {goal: _more(good, size, share, goal) for goal in _GOALS if goal > lower}
    goal, more = _nearest(goals, count)
    return Remaining(count, lower, size, good, goal, more)


def clopper_pearson(right: int, count: int, risk: float) -> float:
    """The exact lower bound of a share, from `right` of `count`, that fails with at most `risk`."""
    from scipy.stats import beta

    return 0.0 if right == 0 else float(beta.ppf(risk, right, count - right + 1))


def _more(right: int, count: int, share: float, goal: float) -> int | None:
    """How many more labels have to be right until the bound is the goal; None for very many."""

    def reached(more: int) -> bool:
        window = min(count + more, _MOST)
        wrong = count - right  # the oldest leave the window first: as if they were the right ones
        return share * clopper_pearson(max(window - wrong, 0), window, (1 - _LEVEL) / 2) >= goal

    more = bisect_left(range(1, _MOST + 1), True, key=reached) + 1
    return more if more <= _MOST else None


def _nearest(goals: Mapping[float, int | None], left: int) -> tuple[float | None, int | None]:
    """The first goal that takes fewer labels than are left."""
    for goal, more in sorted(goals.items()):
        if more is not None and more < left and not math.isnan(goal):
            return goal, more
    return None, None
