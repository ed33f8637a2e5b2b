from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from pipeline.io.disk_cache import DiskCache, key_of

BIG = 1 << 30


def entry(number: int) -> bytes:
    return bytes([number]) * 500


def test_what_was_never_kept_is_not_found(tmp_path: Path) -> None:
    assert DiskCache(tmp_path, BIG).get(key_of("x")) is None


def test_what_was_kept_is_found_by_another_process_too(tmp_path: Path) -> None:
    DiskCache(tmp_path, BIG).put(key_of("x"), entry(0))
    assert DiskCache(tmp_path, BIG).get(key_of("x")) == entry(0)


@pytest.mark.parametrize("damage", [b"", b"DPC1", b"nothing of ours, but long enough"])
def test_a_damaged_entry_counts_as_absent_and_goes(tmp_path: Path, damage: bytes) -> None:
    cache = DiskCache(tmp_path, BIG)
    cache.put(key_of("x"), entry(0))
    path = next(tmp_path.rglob("*.kept"))
    path.write_bytes(damage)
    assert cache.get(key_of("x")) is None
    assert not path.exists()


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, BIG)
    cache.put(key_of("x"), entry(0))
    path = next(tmp_path.rglob("*.kept"))
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    assert cache.get(key_of("x")) is None


def test_the_longest_unused_go_when_the_limit_is_passed(tmp_path: Path) -> None:
    size = 508
    cache = DiskCache(tmp_path, size * 4 + size // 2)
    for number in range(4):
        cache.put(key_of(str(number)), entry(number))
        path = tmp_path / key_of(str(number))[:2] / f"{key_of(str(number))}.kept"
        os.utime(path, (number, number))  # as if kept long ago, one after the other
    assert cache.get(key_of("0")) is not None  # used just now
    cache.put(key_of("4"), entry(4))
    left = {n for n in range(5) if cache.get(key_of(str(n))) is not None}
    assert {0, 4} <= left
    assert 1 not in left
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.kept")) <= cache.limit


def test_a_limit_of_nothing_keeps_nothing_and_finds_nothing(tmp_path: Path) -> None:
    DiskCache(tmp_path, 0).put(key_of("x"), entry(0))
    assert DiskCache(tmp_path, BIG).get(key_of("x")) is None
    DiskCache(tmp_path, BIG).put(key_of("x"), entry(0))
    assert DiskCache(tmp_path, 0).get(key_of("x")) is None


def test_a_disk_that_refuses_does_not_stop_the_work(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    cache = DiskCache(tmp_path / "cache", BIG)
    cache.put(key_of("x"), entry(0))
    cache.put(key_of("x"), entry(0))
    assert cache.get(key_of("x")) is None


def _fill(folder: Path, limit: int) -> None:
    cache = DiskCache(folder, limit)
    for number in range(40):
        key = key_of(str(number % 10))
        found = cache.get(key)
        assert found is None or found == entry(number % 10)
        cache.put(key, entry(number % 10))


@pytest.mark.slow
def test_processes_share_a_folder_that_is_too_small_for_them(tmp_path: Path) -> None:
    limit = 508 * 5
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
