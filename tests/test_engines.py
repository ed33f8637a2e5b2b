from __future__ import annotations

import os
import sys
from functools import partial

import pytest

from pipeline.engines import run_over
from pipeline.errors import ConfigError, DataError, PipelineError


def double(number: int) -> int:
    return 2 * number


def process_of(_: int) -> int:
    return os.getpid()


def fail(number: int, at: int) -> int:
    if number == at:
        raise DataError("a.png", "is broken")
    return number


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 100])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_stand_in_the_order_of_the_items(count: int, workers: int) -> None:
    assert list(run_over(double, range(count), "local", workers)) == [2 * i for i in range(count)]


def test_several_workers_are_several_processes() -> None:
    assert os.getpid() not in set(run_over(process_of, range(40), "local", 2))
    assert set(run_over(process_of, range(3), "local", 0)) == {os.getpid()}  # few items stay here


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_is_raised_here(workers: int) -> None:
    with pytest.raises(DataError, match="is broken"):
        list(run_over(partial(fail, at=20), range(40), "local", workers))


def die(number: int) -> int:
    if number == 20:
        os._exit(9)
    return number


def test_a_process_that_is_killed_is_one_line() -> None:
    with pytest.raises(PipelineError, match="use fewer --workers"):
        list(run_over(die, range(40), "local", 2))


def test_only_a_few_results_are_made_ahead_of_their_reader() -> None:
    seen: list[int] = []

    def note(number: int) -> int:
        seen.append(number)
        return number

    results = run_over(note, range(1000), "local", 1)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert seen == [0, 1, 2]


def test_ray_gives_the_same_in_order() -> None:
    assert list(run_over(abs, range(-40, 0), "ray", 1)) == list(range(40, 0, -1))


def test_without_ray_the_remedy_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install -e \"\.\[ray\]\""):
        list(run_over(abs, range(3), "ray"))
