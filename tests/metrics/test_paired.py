from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.metrics.paired import corrected_t_test, holm, shots


def test_one_fold_has_no_p_and_equal_folds_have_a_p_of_1() -> None:
    assert np.isnan(corrected_t_test([], 0.2))
    assert np.isnan(corrected_t_test([0.1], 0.2))
    assert corrected_t_test([0.0, 0.0, 0.0], 0.2) == 1.0


def test_without_shared_images_p_is_that_of_scipys_paired_test() -> None:
    gaps = [0.1, 0.05, -0.02, 0.08, 0.03]
    theirs = stats.ttest_rel(gaps, np.zeros(5)).pvalue
    assert corrected_t_test(gaps, 0.0) == pytest.approx(theirs, rel=1e-9)


def test_shared_training_images_raise_p_by_hand() -> None:
    """Mean 0.048, variance 0.00217; scale 1/5 + 0.2/0.8 = 0.45: t = 0.048 / sqrt(0.45 * 0.00217)
    = 1.536, of 4 degrees: p 0.199."""
    gaps = [0.1, 0.05, -0.02, 0.08, 0.03]
    assert corrected_t_test(gaps, 0.2) == pytest.approx(0.199, abs=1e-3)


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.03, 0.04: 3 * 0.01, 2 * 0.03, and 0.04 may not be below 0.06."""
    assert holm({}) == {}
    corrected = holm({"a": 0.04, "b": 0.01, "c": 0.03})
    expected = {"a": 0.06, "b": 0.03, "c": 0.06}
    assert corrected == pytest.approx(expected)
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_categories_are_few_medium_or_many_by_their_images() -> None:
    assert shots({"a": 100, "b": 20, "c": 6, "d": 5}, 5, 20) == {
        "a": "many", "b": "many", "c": "medium", "d": "few"
    }  # fmt: skip
