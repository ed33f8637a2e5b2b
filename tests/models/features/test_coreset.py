from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.models.features.coreset import greedy_coreset, projected
from pipeline.models.features.memory_bank import MemoryBank


def textbook(vectors: np.ndarray, count: int, first: int) -> list[int]:
    """Look at every vector after each step."""
    chosen = [first]
    while len(chosen) < count:
        apart = np.linalg.norm(vectors[:, None] - vectors[chosen][None], axis=2).min(axis=1)
        apart[chosen] = -1
        chosen.append(int(apart.argmax()))
    return chosen


@pytest.mark.parametrize(("total", "count", "wanted"), [(1, 1, 1), (5, 0, 0), (5, 9, 5)])
def test_never_more_than_there_are(total: int, count: int, wanted: int) -> None:
    found = greedy_coreset(torch.randn(total, 3), count)
    assert sorted(set(found.tolist())) == sorted(found.tolist())
    assert len(found) == wanted


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(20, 300), st.integers(1, 60), st.integers(1, 20))
def test_it_chooses_as_the_textbook_does(seed: int, total: int, size: int, count: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(total, size))
    found = greedy_coreset(torch.from_numpy(vectors).float(), count, seed).tolist()
    assert found == textbook(vectors, count, found[0])


def test_equal_vectors_are_all_taken_once() -> None:
    """Three places, four copies of each: the first three chosen are the three places."""
    places = torch.eye(3).repeat(4, 1)
    found = greedy_coreset(places, 12)
    assert len(set((found[:3] % 3).tolist())) == 3
    assert sorted(found.tolist()) == list(range(12))


def test_a_projection_keeps_distances_about_as_they_are() -> None:
    """1,536 to 128 dimensions: of 1,225 distances the mean is off by less than 1 %, and none by
    more than 30 % (the deviation of one is 1 / sqrt(2 * 128), 6 %)."""
    vectors = torch.randn(50, 1536)
    small = projected(vectors)
    assert small.shape == (50, 128)
    ratio = torch.pdist(small) / torch.pdist(vectors)
    assert float(ratio.mean()) == pytest.approx(1, abs=0.03)
    assert float((ratio - 1).abs().max()) < 0.3


def test_the_bank_finds_the_nearest_as_brute_force_does() -> None:
    generator = np.random.default_rng(0)
    bank, asked = generator.normal(size=(50, 7)), generator.normal(size=(9, 7))
    distances, found = MemoryBank(bank).search(asked, 3)
    apart = np.linalg.norm(asked[:, None] - bank[None], axis=2)
    assert (found == np.argsort(apart, axis=1)[:, :3]).all()
    np.testing.assert_allclose(distances, np.sort(apart, axis=1)[:, :3], rtol=1e-4)
    assert MemoryBank(bank[:2]).search(asked, 9)[1].shape == (9, 2)
