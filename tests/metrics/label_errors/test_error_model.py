from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics.label_errors.error_model import cross_probabilities, fit_error_model

PRIORS = (0.9, 0.1)


def two_heaps(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Figures (2 * count, 3) of two kinds whose means are 2 apart in the first figure."""
    generator = np.random.default_rng(0)
    figures = generator.normal(size=(2 * count, 3))
    figures[count:, 0] += 2
    return figures, np.repeat([0, 1], count)


def test_the_probabilities_are_those_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression  # slow to import

    figures, kinds = two_heaps()
    ours = fit_error_model(figures, kinds, PRIORS).probabilities(figures)
    scaled = (figures - figures.mean(axis=0)) / figures.std(axis=0)
    weights = np.where(kinds == 0, 0.9 / 0.5, 0.1 / 0.5)  # 0.5: the share of each in the rows
    # Two rows of weights w and -w have a penalty of 2 * w^2 / 2, one of 2 * w has 4 * w^2 / 2.
    other = LogisticRegression(C=2.0, tol=1e-8, max_iter=1000).fit(scaled, kinds, weights)
    assert np.abs(ours - other.predict_proba(scaled)).max() < 1e-3


def test_a_prior_is_what_is_expected_without_a_sign() -> None:
    figures = np.zeros((40, 2))
    kinds = np.repeat([0, 1], 20)
    model = fit_error_model(figures, kinds, PRIORS)
    assert model.probabilities(figures[:1])[0] == pytest.approx(PRIORS, abs=1e-3)


def test_a_kind_that_never_occurs_is_never_expected() -> None:
    figures, kinds = two_heaps()
    shares = fit_error_model(figures, kinds, (0.5, 0.3, 0.2)).probabilities(figures)
    assert shares[:, 2].max() < 1e-3


def test_no_group_speaks_for_itself() -> None:
    figures, kinds = two_heaps(50)
    groups = np.arange(100) % 10
    wanted = np.ones(100, bool)
    before = cross_probabilities(figures, kinds, groups, PRIORS, wanted)
    changed = kinds.copy()
    changed[groups == 3] = 1 - changed[groups == 3]
    after = cross_probabilities(figures, changed, groups, PRIORS, wanted)
    assert np.array_equal(before[groups == 3], after[groups == 3])
    assert not np.array_equal(before, after)


def test_rows_that_nobody_asks_for_and_groups_alone_are_zero() -> None:
    figures, kinds = two_heaps(10)
    one_group = cross_probabilities(figures, kinds, np.zeros(20, int), PRIORS, np.ones(20, bool))
    assert not one_group.any()
    none = cross_probabilities(figures, kinds, np.arange(20), PRIORS, np.zeros(20, bool))
    assert not none.any()
