from __future__ import annotations

import numpy as np
import pytest

from pipeline.models.features.memory_bank import MemoryBank


def vectors(kind: str, count: int, seed: int) -> np.ndarray:
    """(count, 512). flat: nearly all in 20 directions; crowded: the same, but many lie as close
    together as their noise; round: alike in all directions, where no shortcut is to be had."""
    generator = np.random.default_rng(seed)
    if kind == "round":
        return generator.normal(size=(count, 512)).astype(np.float32)
    directions = np.random.default_rng(0).normal(size=(20, 512))
    along = generator.normal(size=(count, 20))
    if kind == "crowded":
        along[: count // 4] *= 0.01
    noise = 0.05 * generator.normal(size=(count, 512))
    return np.asarray(along @ directions + noise + 3, np.float32)


@pytest.mark.parametrize(
    ("kind", "count", "narrowed"),
    [("flat", 100, False), ("flat", 9000, True), ("crowded", 9000, True), ("round", 9000, False)],
)
def test_the_nearest_are_those_of_brute_force(kind: str, count: int, narrowed: bool) -> None:
    bank, asked = vectors(kind, count, 1), vectors(kind, 40, 2)
    memory = MemoryBank(bank)
    distances, found = memory.search(asked, 2)
    assert (memory._narrow is not None) is narrowed
    for row, query in enumerate(asked.astype(np.float64)):
        apart = np.linalg.norm(bank - query, axis=1)
        np.testing.assert_allclose(distances[row], np.sort(apart)[:2], rtol=1e-5)
        np.testing.assert_allclose(apart[found[row]], np.sort(apart)[:2], rtol=1e-5)


def test_what_the_shortcut_leaves_open_is_searched_in_full() -> None:
    """Of a hundred equal vectors no more than 32 are candidates: that none beyond these is nearer
    is not known."""
    bank = vectors("flat", 9000, 1)
    bank[4000:4100] = bank[0]
    memory = MemoryBank(bank)
    narrow = memory._narrow
    assert narrow is not None
    asked = np.stack([bank[0] + np.float32(0.01), bank[7]])
    assert memory._narrowed(narrow, asked, 1)[1].tolist() == [False, True]
    distances, found = memory.search(asked)
    assert int(found[0, 0]) in {0, *range(4000, 4100)}
    assert distances[0, 0] == pytest.approx(0.01 * 512**0.5, rel=1e-4)
    assert (distances[1, 0], int(found[1, 0])) == (0, 7)
