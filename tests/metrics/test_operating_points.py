from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics.operating_points import (
    ImageOutcome,
    for_cost,
    for_false_alarms,
    for_recall,
    operating_counts,
    operating_point,
    reached,
    reached_by,
    wish_of,
)

# Four defects, found at 0.9, 0.6, 0.3 and not at all; false labels at 0.7 and 0.2, on five images.
FIVE = [
    ImageOutcome("a", (0.9, 0.3)),
    ImageOutcome("b", (0.6,), (0.2,)),
    ImageOutcome("c", (0.0,)),
    ImageOutcome("d", (), (0.7,)),
    ImageOutcome("e"),
]


def test_without_an_image_nothing_is_reached() -> None:
    assert reached([], 0.5).recall is None
    assert for_false_alarms([], 1.0) is None


@pytest.mark.parametrize(
    ("recall", "confidence"), [(0.25, 0.9), (0.5, 0.6), (0.51, 0.3), (0.75, 0.3), (0.8, None)]
)
def test_the_highest_confidence_that_finds_a_share_of_the_defects(
    recall: float, confidence: float | None
) -> None:
    assert for_recall(FIVE, recall) == confidence


@pytest.mark.parametrize(
    ("most", "confidence"),
    [(0.0, 0.9), (0.19, 0.9), (0.2, 0.3), (0.4, 0.2)],  # 0.2 an image is one on five
)
def test_the_lowest_confidence_with_few_false_labels(most: float, confidence: float) -> None:
    assert for_false_alarms(FIVE, most) == confidence


def test_a_false_label_above_all_others_leaves_no_confidence() -> None:
    assert for_false_alarms([ImageOutcome("a", (0.5,), (0.8,))], 0.5) is None


@pytest.mark.parametrize(
    # Missed and false at 0.2, 0.3, 0.6, 0.7, 0.9, 1: 1+2, 1+1, 2+1, 3+1, 3+0, 4+0.
    ("miss", "false", "confidence"),
    [(1, 1, 0.3), (10, 1, 0.3), (1, 3, 0.9), (1, 5, 0.9), (0, 1, 0.9)],
)
def test_the_cheapest_confidence(miss: float, false: float, confidence: float) -> None:
    assert for_cost(FIVE, miss, false) == confidence


def test_what_a_confidence_reaches() -> None:
    """At 0.5 two of four defects are found, with one false label on five images."""
    point = reached(FIVE, 0.5)
    assert point.recall is not None
    assert (point.recall[0], point.false_alarms[0]) == (0.5, 0.2)
    assert operating_counts(FIVE, 0.5) == (0.2, 0.5)


def test_a_wish_that_cannot_be_reached_is_not_met() -> None:
    far = operating_point(FIVE, 0.25, wish_of(0.9, None, None))
    assert (far.is_met, far.confidence) == (False, 0.2)  # the lowest score of a label
    assert far.reached.recall is not None
    assert far.reached.recall[0] == 0.75
    near = operating_point(FIVE, 0.25, wish_of(0.5, None, None))
    assert (near.is_met, near.confidence) == (True, 0.6)
    own = operating_point(FIVE, 0.25, wish_of(None, None, None))
    assert (own.is_met, own.confidence) == (True, 0.25)


def test_no_image_speaks_for_itself() -> None:
    """Two groups: each is judged at the score that its other one needs."""
    pair = [ImageOutcome("a", (0.9,)), ImageOutcome("b", (0.5,))]
    choice = wish_of(1.0, None, None)
    assert choice is not None
    result = reached_by(pair, choice.choose, 0.1)  # a at 0.5 is found, b at 0.9 is not
    assert result.recall is not None
    assert result.recall[0] == 0.5


def test_the_interval_holds_what_new_images_reach() -> None:
    """Defects with scores of a known law: 95 % intervals of 60 draws of 40 photos hold the recall
    of the chosen confidence, of which at most 8 may miss (1 in 200 such tests fails by chance)."""
    generator = np.random.default_rng(0)
    wish = wish_of(0.9, None, None)
    held = 0
    for _ in range(60):
        easy = generator.beta(4, 2, 40)  # one for each photo: its two defects are alike
        scores = np.clip(easy[:, None] + generator.normal(0, 0.1, (40, 2)), 0.001, 0.999)
        outcomes = [ImageOutcome(str(n), tuple(own)) for n, own in enumerate(scores.tolist())]
        point = operating_point(outcomes, 0.5, wish)
        new = np.clip(generator.beta(4, 2, 20_000) + generator.normal(0, 0.1, 20_000), 0.001, 0.999)
        assert point.reached.recall is not None
        _, low, high = point.reached.recall
        held += low <= float((new >= point.confidence).mean()) <= high
    assert held >= 52
