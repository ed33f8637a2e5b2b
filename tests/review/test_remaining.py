from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from review_sessions import opened, square

from pipeline.review.actions import Move
from pipeline.review.remaining import RightLabels, bound, clopper_pearson
from pipeline.review.values import Key, Value


def right(*values: int) -> NDArray[np.bool_]:
    return np.array(values, bool)


def trust(*values: float) -> NDArray[np.float64]:
    return np.array(values, np.float64)


def test_nothing_is_claimed_before_the_first_judgement_and_of_labels_without_trust() -> None:
    assert bound(trust(0.5, 0.6), trust(), right()).lower is None
    assert bound(trust(), trust(0.1), right(1)).lower is None
    assert bound(trust(np.nan, np.nan), trust(0.1), right(1)).lower is None


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    # all of n right: the bound p solves p^n = risk
    assert clopper_pearson(20, 20, 0.025) == pytest.approx(0.025 ** (1 / 20))
    assert clopper_pearson(0, 20, 0.025) == 0
    found = bound(trust(0.8, 0.9), trust(*np.linspace(0, 0.7, 20)), right(*[1] * 20))
    assert found.lower == pytest.approx(0.025 ** (1 / 20))
    assert (found.left, found.judged, found.right) == (2, 20, 20)


def test_a_label_that_was_passed_over_costs_its_share_and_no_more() -> None:
    judged, ones = trust(*np.linspace(0.2, 0.7, 30)), right(*[1] * 30)
    left = np.concatenate([[0.1], np.full(99, 0.9)])
    whole = bound(left[1:], judged, ones).lower
    assert whole is not None
    assert bound(left, judged, ones).lower == pytest.approx(0.99 * whole)  # 1 of 100


def test_how_many_more_are_needed_is_said_where_enough_are_left() -> None:
    found = bound(np.full(500, 0.9), trust(*np.linspace(0, 0.5, 30)), right(*[1] * 30))
    # 0.025^(1/36) = 0.9026, 0.025^(1/35) = 0.8999: six more than 30
    assert (found.goal, found.more) == (0.9, 6)
    assert bound(np.full(3, 0.9), trust(0.1), right(1)).more is None


@pytest.mark.slow
def test_the_bound_holds_where_trust_ranks_right_labels_first() -> None:
    """300 sets of 400 labels, reviewed to a third with the least trusted first: the bound is above
    the truth in at most 5 % of them, and says something in most."""
    generator = np.random.default_rng(0)
    failed, bounds = 0, []
    for _ in range(300):
        x = np.sort(generator.random(400))
        y = generator.random(400) < 0.4 + 0.6 * x**0.5
        found = bound(x[130:], x[:130], y[:130])
        assert found.lower is not None
        failed += found.lower > y[130:].mean()
        bounds.append(found.lower)
    assert failed <= 15
    assert np.mean(bounds) > 0.5


def test_a_session_counts_what_a_person_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as store:  # four objects, 6 x 6 each, of trust 0.1 to 0.4
        labels = RightLabels(store)
        assert labels.remaining().left == 4
        value = store.object_by_id(1).value
        assert value is not None
        after: dict[Key, Value] = {Key("object", 1): value.model_copy(update={"state": "accepted"})}
        store.act("Ann", Move("accept", 1, 1, after))
        store.act("Ann", Move("edit", 1, 2, {Key("object", 2): square(40, 30, 1)}))
        found = labels.remaining()
        assert (found.left, found.judged, found.right) == (2, 2, 1)  # the second was elsewhere
        store.act("Ann", Move("edit", 1, 2, {Key("object", 2): square(24, 14, 1)}))
        assert labels.remaining().right == 2  # back where it was
