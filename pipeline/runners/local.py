"""Work in several processes of this machine.

Each process has a pipe of its own and shares no lock with another. So one that is killed, even
while it sends, closes its own pipe and nothing else. With one queue for all, the others would wait
for its lock, and this process for the rest of its result, for ever.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue

from pipeline.errors import PipelineError
from pipeline.runners.base import (
    IN_FLIGHT,
    BatchWork,
    BatchWorker,
    Item,
    Result,
    as_start,
    in_order,
)
from pipeline.runtime.threads import worker_environment

_KILLED = "a process was killed, perhaps because memory ran out; use fewer --workers"
_END = b""  # instead of a batch
_LONGEST_END = 30.0  # seconds, after which a process that has nothing to do is killed


def map_over_processes(
    work: BatchWork[Item, Result], items: Sequence[Item], workers: int, batch: int
) -> Iterator[Result]:
    """See `map_batches`: in several processes of this machine."""
    processes = _Processes()
    try:
        processes.start(as_start(work), min(workers, -(-len(items) // batch)))
        yield from in_order(items, batch, processes, workers)
        processes.end()
    finally:
        processes.kill()


class _Processes:
    """The processes, by the pipes to them: `Workers`."""

    def __init__(self) -> None:
        self._processes: dict[Connection, SpawnProcess] = {}
        self._given: dict[Connection, deque[int]] = {}  # the batches that each process holds

    def start(self, start: bytes, count: int) -> None:
        """Start `count` processes. start: see `BatchWorker`. Raises PipelineError where one is
        killed."""
        context = get_context("spawn")  # a fork would copy threads' locks
        for _ in range(count):
            with _signals_for_this_process_alone(), _variables_of_workers():
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
            theirs.close()  # a pipe ends with its process
            self._processes[ours], self._given[ours] = process, deque()
        for pipe in self._processes:
            _send(pipe, start)

    def take_more(self) -> bool:
        return min(map(len, self._given.values())) < IN_FLIGHT

    def give(self, number: int, items: bytes) -> None:
        pipe = min(self._given, key=lambda pipe: len(self._given[pipe]))
        _send(pipe, items)
        self._given[pipe].append(number)

    def receive(self) -> tuple[int, bytes]:
        pipe = next(pipe for pipe in wait(list(self._given)) if isinstance(pipe, Connection))
        try:
            results = pipe.recv_bytes()
        except (EOFError, OSError) as error:
            raise PipelineError(_KILLED) from error
        return self._given[pipe].popleft(), results

    def end(self) -> None:
        """Let the processes end, which hold no batch."""
        for pipe in self._processes:
            with suppress(OSError):  # one that was killed has ended
                pipe.send_bytes(_END)
        for process in self._processes.values():
            process.join(_LONGEST_END)

    def kill(self) -> None:
        """End the processes, whatever they do."""
        for process in self._processes.values():
            process.kill()
        for pipe, process in self._processes.items():
            process.join()
            pipe.close()


def _send(pipe: Connection, data: bytes) -> None:
    try:
        pipe.send_bytes(data)
    except OSError as error:
        raise PipelineError(_KILLED) from error


@contextmanager
def _signals_for_this_process_alone() -> Iterator[None]:
    """Processes that start within the block never get Ctrl-C or a hangup, not even while they
    start. Their parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    blocked = (signal.SIGINT, signal.SIGHUP)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)  # starting the tracker lifts Ctrl-C's
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _variables_of_workers() -> Iterator[None]:
    """Processes that start within the block have as many threads as this one, also in what the
    user's own script imports at its top."""
    own = worker_environment()
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection) -> None:
    """Work on batches until the pipe says that there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    batches: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_take, args=(pipe, batches), daemon=True).start()
    worker = BatchWorker(batches.get())
    with suppress(OSError):  # nobody reads the results: `_take` ends this process
        while (items := batches.get()) != _END:
            pipe.send_bytes(worker(items))


def _take(pipe: Connection, batches: SimpleQueue[bytes]) -> None:
    """Take batches while the process works. Its parent's end of the pipe closes when the parent
    ends, however it ends: this process then ends too."""
    with suppress(EOFError, OSError):
        while True:
            batches.put(pipe.recv_bytes())
    os._exit(0)
