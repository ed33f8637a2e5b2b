from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.models.embedding_cache import EmbeddingCache, key_of, pack, unpack

BIG = 1 << 30


def embedding(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, 8, 8)).astype(np.float16)


@given(arrays.arrays(np.float16, st.tuples(*[st.integers(1, 4)] * 3)))
def test_packing_loses_no_bit(values: np.ndarray) -> None:
    assert unpack(pack(values)).tobytes() == values.tobytes()


def test_what_was_never_kept_is_not_found(tmp_path: Path) -> None:
    assert EmbeddingCache(tmp_path, BIG).get(key_of("x")) is None


def test_what_was_kept_is_found_by_another_process_too(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path, BIG).put(key_of("x"), embedding(0))
    found = EmbeddingCache(tmp_path, BIG).get(key_of("x"))
    assert found is not None
    assert (found == embedding(0)).all()


@pytest.mark.parametrize("damage", [b"", b"EMB1", b"no embedding at all, but long enough"])
def test_a_damaged_entry_counts_as_absent_and_goes(tmp_path: Path, damage: bytes) -> None:
    cache = EmbeddingCache(tmp_path, BIG)
    cache.put(key_of("x"), embedding(0))
    path = next(tmp_path.rglob("*.emb"))
    path.write_bytes(damage)
    assert cache.get(key_of("x")) is None
    assert not path.exists()


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, BIG)
    cache.put(key_of("x"), embedding(0))
    path = next(tmp_path.rglob("*.emb"))
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    assert cache.get(key_of("x")) is None


def test_the_longest_unused_go_when_the_limit_is_passed(tmp_path: Path) -> None:
    size = len(pack(embedding(0)))
    cache = EmbeddingCache(tmp_path, size * 4 + size // 2)
    for number in range(4):
        cache.put(key_of(str(number)), embedding(number))
        path = tmp_path / key_of(str(number))[:2] / f"{key_of(str(number))}.emb"
        os.utime(path, (number, number))  # as if kept long ago, one after the other
    assert cache.get(key_of("0")) is not None  # used just now
    cache.put(key_of("4"), embedding(4))
    left = {n for n in range(5) if cache.get(key_of(str(n))) is not None}
    assert {0, 4} <= left
    assert 1 not in left
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.emb")) <= cache.limit


def test_a_limit_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path, 0).put(key_of("x"), embedding(0))
    assert not list(tmp_path.rglob("*.emb"))


def test_a_disk_that_refuses_does_not_stop_the_work(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    cache = EmbeddingCache(tmp_path / "cache", BIG)
    cache.put(key_of("x"), embedding(0))
    cache.put(key_of("x"), embedding(0))
    assert cache.get(key_of("x")) is None


def _fill(folder: Path, limit: int) -> None:
    cache = EmbeddingCache(folder, limit)
    for number in range(40):
        key = key_of(str(number % 10))
        found = cache.get(key)
        assert found is None or (found == embedding(number % 10)).all()
        cache.put(key, embedding(number % 10))


def test_processes_share_a_folder_that_is_too_small_for_them(tmp_path: Path) -> None:
    limit = len(pack(embedding(0))) * 5
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_fill, args=(tmp_path, limit)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert not list(tmp_path.rglob("*.part"))


def test_keys_tell_where_one_part_ends_and_the_next_begins() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")
