"""Intervals hold their figure, shrink with more images, and cover the truth in 95 of 100 sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics.anomaly import pixel_figures, ranking
from pipeline.metrics.intervals import bootstrap_mean, percentile_interval
from pipeline.metrics.pixel_counts import Pair

VALUES = st.lists(st.floats(0, 1, width=16), min_size=1, max_size=20)


def test_no_draw_has_no_interval_and_undefined_ones_are_left_out() -> None:
    assert np.isnan(percentile_interval(np.zeros(0), 0.5, 3)).all()
    draws = np.array([np.nan, 0.25, 0.25])
    assert percentile_interval(draws, 0.25, 3) == (0.25, 0.25)


def test_levels_are_further_out_where_groups_are_few() -> None:
    """Ten groups: the t quantile 2.2622 times (10/9)^0.5 is 2.3846, which a normal value exceeds
    with probability 0.00855. Of the draws 0 to 1, that is the quantile."""
    low, high = percentile_interval(np.linspace(0, 1, 10_001), 0.5, 10)
    assert (low, 1 - high) == pytest.approx((0.00855, 0.00855), abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.integers(0, 3))
def test_the_interval_of_a_mean_holds_it(values: list[float], seed: int) -> None:
    low, high = bootstrap_mean(values, seed, rounds=50)
    assert low <= np.mean(values) + 1e-12
    assert high >= np.mean(values) - 1e-12


def test_four_times_the_photos_halve_the_interval() -> None:
    generator = np.random.default_rng(0)
    few, many = (bootstrap_mean(generator.random(n).tolist()) for n in (50, 200))
    assert (many[1] - many[0]) / (few[1] - few[0]) == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("photos", [10, 20, 40])
def test_nineteen_of_twenty_intervals_of_a_mean_hold_the_truth(photos: int) -> None:
    """The mean of the beta distribution (2, 1) is 2/3. Objects of one photo lie together. Of 400
    intervals, 95 % hold it; two standard errors of that share are 0.022."""
    generator = np.random.default_rng(photos)
    groups = [str(photo) for photo in range(photos) for _ in range(3)]
    held = 0
    for seed in range(400):
        values = np.repeat(generator.beta(2, 1, photos), 3)
        low, high = bootstrap_mean(values.tolist(), seed, 1000, groups)
        held += low <= 2 / 3 <= high
    assert held / 400 == pytest.approx(0.95, abs=0.03)


@pytest.mark.slow
def test_nineteen_of_twenty_intervals_of_an_auroc_hold_the_truth() -> None:
    """Scores of defective images are normal around 1, of good ones around 0: their difference is
    normal with variance 2, and above 0 with probability 0.7602."""
    generator = np.random.default_rng(0)
    defective = np.arange(40) % 2 == 0
    held = 0
    for seed in range(300):
        scores = generator.normal(defective)
        low, high = ranking(scores.tolist(), defective.tolist(), seed).auroc_interval
        held += low <= 0.7602 <= high
    assert held / 300 == pytest.approx(0.95, abs=0.03)


def sparse(seed: int) -> list[Pair]:
    """Thirty maps that are 0 but for what a detector marks: half of the defects, a few others."""
    generator = np.random.default_rng(seed)
    pairs: list[Pair] = []
    for number in range(30):
        heatmap, mask = np.zeros((64, 64), np.float32), np.zeros((64, 64), bool)
        if number % 2:
            y, x = generator.integers(0, 50, 2)
            mask[y : y + 8, x : x + 9] = True
            if generator.random() < 0.5:
                heatmap[y + 2 : y + 9, x : x + 8] = generator.uniform(0.1, 0.9)
        if generator.random() < 0.2:
            heatmap[5:9, 5:30] = generator.uniform(0.1, 0.9)
        pairs.append((heatmap, mask if mask.any() else None))
    return pairs


@pytest.mark.parametrize("seed", range(4))
def test_intervals_lie_around_their_figure_where_maps_are_0_nearly_everywhere(seed: int) -> None:
    """The figure is about as far from the lower end as from the upper one: 0.35 to 0.65."""
    figures = pixel_figures(sparse(seed))
    for value, (low, high) in [
        (figures.aupro, figures.aupro_interval),
        (figures.auroc, figures.auroc_interval),
    ]:
        assert 0.35 < (value - low) / (high - low) < 0.65
