from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.metrics.paired import corrected_t_test, holm, shots


def test_too_few_folds_say_nothing_and_no_difference_is_no_difference() -> None:
    assert np.isnan(corrected_t_test([], 0.2))
    assert np.isnan(corrected_t_test([0.1], 0.2))
    assert corrected_t_test([0.0, 0.0, 0.0], 0.2) == 1.0


def test_with_nothing_shared_it_is_scipys_paired_test() -> None:
    gaps = [0.1, 0.05, -0.02, 0.08, 0.03]
    theirs = stats.ttest_rel(gaps, np.zeros(5)).pvalue
    assert corrected_t_test(gaps, 0.0) == pytest.approx(theirs, rel=1e-9)


def test_sharing_makes_it_less_sure_by_hand() -> None:
    """Mean 0.048, variance 0.00217; scale 1/5 + 0.2/0.8 = 0.45: t = 0.048 / sqrt(0.45 * 0.00217)
    = 1.536, of 4 degrees: p 0.199."""
    gaps = [0.1, 0.05, -0.02, 0.08, 0.03]
    assert corrected_t_test(gaps, 0.2) == pytest.approx(0.199, abs=1e-3)


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.03, 0.04: 3 * 0.01, 2 * 0.03, and 0.04 may not be below 0.06."""
    assert holm({}) == {}
    found = holm({"a": 0.04, "b": 0.01, "c": 0.03})
    assert found == {"a": pytest.approx(0.06), "b": pytest.approx(0.03), "c": pytest.approx(0.06)}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_shots() -> None:
    assert shots({"a": 100, "b": 20, "c": 6, "d": 5}, 5, 20) == {
        "a": "many", "b": "many", "c": "medium", "d": "few"
    }  # fmt: skip
