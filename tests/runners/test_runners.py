from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pipeline.errors import DataError, PipelineError
from pipeline.io.write import write_text, writing_below
from pipeline.runners import PerProcess, map_batches, map_items
from pipeline.runners.base import in_order
from pipeline.runtime.progress import set_quiet


def double(number: int) -> int:
    return 2 * number


def process_of(_: int) -> int:
    return os.getpid()


def fail(number: int, at: int) -> int:
    if number == at:
        raise DataError("a.png", "is broken")
    return number


@pytest.mark.parametrize(
    ("count", "workers"),
    [*product([0, 1, 15, 16, 17, 100], [1]), (0, 0), (15, 0), (0, 2), (17, 2)]
    + [pytest.param(*one, marks=pytest.mark.slow) for one in ((100, 0), (1, 2), (16, 2), (100, 2))],
)
def test_results_stand_in_the_order_of_the_items(count: int, workers: int) -> None:
    assert list(map_items(double, range(count), "local", workers)) == [2 * i for i in range(count)]


@pytest.mark.slow
def test_several_workers_are_several_processes() -> None:
    assert os.getpid() not in set(map_items(process_of, range(40), "local", 2))
    assert set(map_items(process_of, range(3), "local", 0)) == {os.getpid()}  # few items stay here


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_error_of_the_work_is_raised_here(workers: int) -> None:
    with pytest.raises(DataError, match="is broken"):
        list(map_items(partial(fail, at=20), range(40), "local", workers))


def die(number: int) -> int:
    if number == 20:
        os._exit(9)
    return number


@pytest.mark.slow
def test_a_process_that_is_killed_is_one_line() -> None:
    with pytest.raises(PipelineError, match="use fewer --workers"):
        list(map_items(die, range(40), "local", 2))


def die_while_sending(number: int) -> int:
    """The process sends half of its next message."""

    def half(pipe: Connection, data: bytes) -> None:
        os.write(pipe.fileno(), bytes(data)[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    if number == 20:
        Connection._send = half  # type: ignore[attr-defined]
    return number


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_process_that_is_killed_while_it_sends_is_one_line() -> None:
    """With one queue for all processes, this one would wait for the rest for ever."""
    with pytest.raises(PipelineError, match="use fewer --workers"):
        list(map_items(die_while_sending, range(40), "local", 2))


class LastFirst:
    """Workers that finish the last batch first, and note how many they hold."""

    def __init__(self, size: int) -> None:
        self.size, self.held, self.given = size, list[tuple[int, bytes]](), 0

    def take_more(self) -> bool:
        return len(self.held) < self.size

    def give(self, number: int, items: bytes) -> None:
        self.held.append((number, items))
        self.given += 1

    def receive(self) -> tuple[int, bytes]:
        number, items = self.held.pop()
        try:
            return number, pickle.dumps([fail(item, at=7) for item in pickle.loads(items)])
        except DataError as error:
            return number, pickle.dumps(error)


@pytest.mark.parametrize(
    ("count", "results"), [(0, []), (1, [0]), (7, [*range(7)]), (40, [*range(6)])]
)
def test_results_are_in_order_also_of_workers_that_are_not(count: int, results: list[int]) -> None:
    """The eighth item fails: results of the batches before it come first, and no more than a few
    batches are begun."""
    workers, made = LastFirst(3), []
    with suppress(DataError):
        for number in in_order(range(count), 2, workers, 1):
            made.append(number)
    assert made == results
    assert workers.given <= 3 + 4 + 1  # batches before the fault, and ahead


class OddError(Exception):
    """An error that cannot be made from its text alone."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def fail_oddly(number: int) -> int:
    raise OddError("cannot ", "be sent")


def test_an_error_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(RuntimeError, match="OddError: cannot be sent"):
        list(map_items(fail_oddly, range(3), "local", 2))


def large(_: int) -> bytes:
    return bytes(1_000_000)


@pytest.mark.slow
def test_whoever_reads_no_further_waits_for_no_half_result() -> None:
    results = map_items(large, range(160), "local", 2)  # 16 in a batch: a send of 16 MB
    next(results)
    results.close()  # would not return


def test_only_a_few_results_are_made_ahead_of_their_reader() -> None:
    seen: list[int] = []

    def note(number: int) -> int:
        seen.append(number)
        return number

    results = map_items(note, range(1000), "local", 1)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert seen == [0, 1, 2]


@pytest.mark.slow
def test_workers_write_where_their_parent_may_and_nowhere_else(tmp_path: Path) -> None:
    inside, outside = tmp_path / "out", tmp_path / "elsewhere"
    write = partial(write_text, text="x")
    with writing_below(inside):
        list(map_items(write, [inside / f"{number}.txt" for number in range(20)], "local", 2))
        with pytest.raises(DataError, match="lies outside the folder that is written"):
            list(map_items(write, [outside / f"{number}.txt" for number in range(20)], "local", 2))
    assert len(list(inside.iterdir())) == 20
    assert not outside.exists()


def dawdle(number: int, folder: Path) -> int:
    if number >= 16:
        (folder / "began").touch()
        time.sleep(60)
        (folder / "went on").touch()
    return number


@pytest.mark.slow
def test_a_reader_that_goes_ends_the_work_at_once(tmp_path: Path) -> None:
    results = map_items(partial(dawdle, folder=tmp_path), range(32), "local", 2)
    assert next(results) == 0
    while not (tmp_path / "began").exists():
        time.sleep(0.01)
    results.close()
    assert not (tmp_path / "went on").exists()


ORPHANS = """
import os, time
from pipeline.runners import map_items
for number in map_items(time.sleep, [0] * 16 + [600] * 16, "local", 2):
    print(number, flush=True)
"""


def test_workers_end_with_their_parent_however_it_ends() -> None:
    """They hold its stdout open: that ends when the last of them has."""
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline()
    parent.kill()
    parent.communicate(timeout=60)


def note(number: int) -> None:
    from pipeline.runtime.progress import say

    say(f"item {number}")


@pytest.mark.slow
def test_workers_are_as_quiet_as_their_parent(capfd: pytest.CaptureFixture[str]) -> None:
    list(map_items(note, range(20), "local", 2))
    assert capfd.readouterr().err == ""


def make_models() -> list[int]:
    """Models that say so when they are loaded, and count what they do."""
    from pipeline.runtime.progress import say

    say("loading")
    return []


def count_up(
    numbers: Sequence[int], models: PerProcess[list[int]]
) -> Iterator[tuple[int, int, int]]:
    """Each number, with the process and the models' count of what they did."""
    for number in numbers:
        models.get().append(number)
        yield number, os.getpid(), len(models.get())


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_models_are_made_once_in_each_process(workers: int) -> None:
    work = partial(count_up, models=PerProcess(make_models))
    done = list(map_batches(work, range(20), "local", workers, batch=3))
    assert [number for number, *_ in done] == list(range(20))
    processes = {process for _, process, _ in done}
    assert len(processes) <= workers
    assert sum(max(n for _, p, n in done if p == process) for process in processes) == 20


@pytest.mark.slow
def test_what_models_say_is_printed_once(capfd: pytest.CaptureFixture[str]) -> None:
    set_quiet(False)
    models = PerProcess(make_models)
    models.get()
    list(map_batches(partial(count_up, models=models), range(20), "local", 2, batch=3))
    assert capfd.readouterr().err == "loading\n"


def test_no_item_starts_nothing() -> None:
    assert list(map_batches(iter, [], "ray", 2)) == []
