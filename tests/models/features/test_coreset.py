from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.models.features.coreset import greedy_coreset, projected
from pipeline.models.features.memory_bank import MemoryBank


def textbook(vectors: np.ndarray, count: int, first: int) -> list[int]:
    """Update every distance after each step."""
    chosen = [first]
    while len(chosen) < count:
        apart = np.linalg.norm(vectors[:, None] - vectors[chosen][None], axis=2).min(axis=1)
        apart[chosen] = -1
        chosen.append(int(apart.argmax()))
    return chosen


@pytest.mark.parametrize(("total", "count", "wanted"), [(1, 1, 1), (5, 0, 0), (5, 9, 5)])
def test_never_more_than_there_are(total: int, count: int, wanted: int) -> None:
    chosen = greedy_coreset(torch.randn(total, 3), count)
    assert sorted(set(chosen.tolist())) == sorted(chosen.tolist())
    assert len(chosen) == wanted


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(20, 300), st.integers(1, 60), st.integers(1, 20))
def test_the_choice_is_that_of_the_textbook(seed: int, total: int, size: int, count: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(total, size))
    chosen = greedy_coreset(torch.from_numpy(vectors).float(), count, seed).tolist()
    assert chosen == textbook(vectors, count, chosen[0])


def test_each_copy_of_a_vector_is_chosen_once() -> None:
    """Three vectors, four copies of each: the first three chosen differ."""
    copies = torch.eye(3).repeat(4, 1)
    chosen = greedy_coreset(copies, 12)
    assert len(set((chosen[:3] % 3).tolist())) == 3
    assert sorted(chosen.tolist()) == list(range(12))


def test_a_projection_changes_distances_little() -> None:
    """1,536 to 128 dimensions: the mean of 1,225 ratios is within 3 % of 1, and each within 30 %
    (the standard deviation of one is 1 / sqrt(2 * 128), 6 %)."""
    vectors = torch.randn(50, 1536)
    small = projected(vectors)
    assert small.shape == (50, 128)
    ratio = torch.pdist(small) / torch.pdist(vectors)
    assert float(ratio.mean()) == pytest.approx(1, abs=0.03)
    assert float((ratio - 1).abs().max()) < 0.3


def test_the_nearest_in_a_bank_are_those_of_brute_force() -> None:
    generator = np.random.default_rng(0)
    bank = generator.normal(size=(50, 7)).astype(np.float32)
    queries = generator.normal(size=(9, 7)).astype(np.float32)
    distances, nearest = MemoryBank(bank).search(queries, 3)
    apart = np.linalg.norm(queries[:, None] - bank[None], axis=2)
    assert (nearest == np.argsort(apart, axis=1)[:, :3]).all()
    np.testing.assert_allclose(distances, np.sort(apart, axis=1)[:, :3], rtol=1e-4)
    assert MemoryBank(bank[:2]).search(queries, 9)[1].shape == (9, 2)
