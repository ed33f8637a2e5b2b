from __future__ import annotations

import numpy as np
import pytest

from pipeline.models.features.memory_bank import MemoryBank


def vectors(kind: str, count: int, seed: int) -> np.ndarray:
    """(count, 512). flat: most variance is in 20 directions. crowded: the same, but a quarter are
    as close to each other as the noise. round: equal variance in all directions, where candidates
    settle nothing."""
    generator = np.random.default_rng(seed)
    if kind == "round":
        return generator.normal(size=(count, 512)).astype(np.float32)
    directions = np.random.default_rng(0).normal(size=(20, 512))
    along = generator.normal(size=(count, 20))
    if kind == "crowded":
        along[: count // 4] *= 0.01
    noise = 0.05 * generator.normal(size=(count, 512))
    return np.asarray(along @ directions + noise + 3, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count", "two_steps"),
    [("flat", 100, False), ("flat", 9000, True), ("crowded", 9000, True), ("round", 9000, False)],
)
def test_the_nearest_are_those_of_brute_force(kind: str, count: int, two_steps: bool) -> None:
    bank, queries = vectors(kind, count, 1), vectors(kind, 40, 2)
    memory = MemoryBank(bank)
    distances, nearest = memory.search(queries, 2)
    assert (memory._principal is not None) is two_steps
    for row, query in enumerate(queries.astype(np.float64)):
        apart = np.linalg.norm(bank - query, axis=1)
        np.testing.assert_allclose(distances[row], np.sort(apart)[:2], rtol=1e-5)
        np.testing.assert_allclose(apart[nearest[row]], np.sort(apart)[:2], rtol=1e-5)


def test_a_query_that_candidates_do_not_settle_is_searched_in_full() -> None:
    """Of a hundred equal vectors 32 are candidates: the bounds do not prove that the rest is not
    nearer."""
    bank = vectors("flat", 9000, 1)
    bank[4000:4100] = bank[0]
    memory = MemoryBank(bank)
    principal = memory._principal
    assert principal is not None
    queries = np.stack([bank[0] + np.float32(0.01), bank[7]])
    assert memory._search_candidates(principal, queries, 1)[1].tolist() == [False, True]
    distances, nearest = memory.search(queries)
    assert int(nearest[0, 0]) in {0, *range(4000, 4100)}
    assert distances[0, 0] == pytest.approx(0.01 * 512**0.5, rel=1e-4)
    assert (distances[1, 0], int(nearest[1, 0])) == (0, 7)
