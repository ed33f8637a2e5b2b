"""What the runners share: the order of the results, and what a process does with a batch."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from pipeline.errors import PipelineError
from pipeline.io.write import adopt_roots, open_roots
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.runtime.progress import is_quiet, set_quiet, silence
from pipeline.runtime.threads import worker_environment

Runner = Literal["local", "ray"]
Item = TypeVar("Item")
Result = TypeVar("Result")
State = TypeVar("State")
Work = Callable[[Item], Result]
BatchWork = Callable[[Sequence[Item]], Iterator[Result]]  # one result for each item, in order

BATCH = 16  # items that a process takes at once
IN_FLIGHT = 2  # batches that a process holds: it works on one while the other waits
_VARIABLES = "PIPELINE_"  # how the names of this program's variables begin
_AHEAD = 4  # batches for each process that are begun before their results are wanted


def work_on(items: Sequence[Item], work: Work[Item, Result]) -> Iterator[Result]:
    """The results of one batch."""
    return map(work, items)


class PerProcess(Generic[State]):
    """What is too large to be sent, such as models: each process makes its own.

    It is sent as `make`, which must be picklable where there are several processes.
    """

    def __init__(
        self, make: Callable[[], State], is_sent: bool = False, own: State | None = None
    ) -> None:
        """make: gives what each process has. is_sent: another process has printed what `make`
        says. own: what this process has already; None for nothing."""
        self._make, self._is_sent = make, is_sent
        self._made: list[State] = [] if own is None else [own]

    def get(self) -> State:
        """What this process has; it is made at the first call. Raises what `make` raises."""
        if not self._made:
            if self._is_sent:
                with silence():
                    self._made.append(self._make())
            else:
                self._made.append(self._make())
        return self._made[0]

    def __reduce__(self) -> tuple[type[PerProcess[State]], tuple[Callable[[], State], bool]]:
        return type(self), (self._make, True)


class Workers(Protocol):
    """Processes that work on batches. Batches and results are pickled."""

    def take_more(self) -> bool:
        """Whether `give` may be called."""

    def give(self, number: int, items: bytes) -> None:
        """Give a batch to a process. Raises PipelineError where the processes have ended."""

    def receive(self) -> tuple[int, bytes]:
        """The next finished batch: its number and its results; waits for it. Raises PipelineError
        where the processes have ended."""


def in_order(items: Sequence[Any], batch: int, workers: Workers, count: int) -> Iterator[Any]:
    """Yield the results of `items` in their order. Raises what the work raised, after the results
    of the batches before it.

    batch: items in one. count: processes. No more than `_AHEAD` batches for each are in memory.
    """
    starts = range(0, len(items), batch)
    done: dict[int, bytes] = {}
    given = 0
    for number in range(len(starts)):
        while True:
            while given < min(number + _AHEAD * count, len(starts)) and workers.take_more():
                workers.give(given, pickle.dumps(items[starts[given] : starts[given] + batch]))
                given += 1
            if number in done:
                break
            finished, results = workers.receive()
            done[finished] = results
        yield from _opened(done.pop(number))


class BatchWorker:
    """What a process does: it is prepared once, and then works on one batch after the other."""

    def __init__(self, start: bytes) -> None:
        """start: of `as_start`."""
        around, self._work = pickle.loads(start)
        adopt(around)
        self._loaded: BatchWork[Any, Any] | None = None

    def __call__(self, items: bytes) -> bytes:
        """The results of a batch, or the error that it ended with."""
        try:
            if self._loaded is None:
                self._loaded = self._load()
            return pickle.dumps(list(self._loaded(pickle.loads(items))))
        except Exception as error:
            return error_bytes(error)

    def _load(self) -> BatchWork[Any, Any]:
        """The work. To load it may import torch, which reads the number of its threads then."""
        import cv2

        cv2.setNumThreads(1)
        keep_freed_memory()
        work: BatchWork[Any, Any] = pickle.loads(self._work)
        return work


def as_start(work: BatchWork[Any, Any]) -> bytes:
    """What a `BatchWorker` starts from: the work, and the surroundings of this process."""
    return pickle.dumps((surroundings(), pickle.dumps(work)))


def surroundings() -> bytes:
    """What another process adopts: it has this program's variables, and as many threads as this
    process, works in the same folder, writes where this process may, and is as quiet."""
    own = {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
    environment = {**own, **worker_environment()}
    return pickle.dumps((environment, Path.cwd(), open_roots(), is_quiet()))


def adopt(around: bytes) -> None:
    """Make the surroundings of another process those of this one."""
    environment, place, roots, quiet = pickle.loads(around)
    os.environ.update(environment)
    with suppress(OSError):  # another machine may not have it, nor need it
        os.chdir(place)
    adopt_roots(roots)
    set_quiet(quiet)


def _opened(results: bytes) -> Sequence[Any]:
    """The results of a batch. Raises the error that it ended with."""
    opened: Sequence[Any] | Exception = pickle.loads(results)
    if isinstance(opened, Exception):
        raise opened
    return opened


def error_bytes(error: Exception) -> bytes:
    """The error, pickled, with its place in the program where that is of use; another error that
    names it, where it cannot be sent."""
    if not isinstance(error, PipelineError):
        error.add_note(traceback.format_exc())
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:
        data = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return data
