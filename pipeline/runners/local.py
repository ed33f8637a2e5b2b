"""Work in several processes of this machine."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.io.write import adopt_roots, open_roots
from pipeline.runners.base import BATCH, Item, Result, Work, work_on
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.runtime.progress import is_quiet, set_quiet


def map_over_processes(
    work: Work[Item, Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    """See `map_items`: in several processes of this machine."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    lifeline, our_end = context.Pipe(duplex=False)
    pending: deque[Future[list[Result]]] = deque()
    with _signals_for_this_process_alone():  # the first semaphore starts a process too
        stopping = context.Event()
        start = (lifeline, stopping, open_roots(), is_quiet())
        pool = ProcessPoolExecutor(workers, context, initializer=_start_process, initargs=start)
    with pool:
        try:
            for first in range(0, len(items), BATCH):
                with _signals_for_this_process_alone():
                    pending.append(pool.submit(_work_on, work, items[first : first + BATCH]))
                if len(pending) > 2 * workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        except BrokenProcessPool as error:
            raise PipelineError(
                "a process was killed, perhaps because memory ran out; use fewer --workers"
            ) from error
        except BaseException:
            stopping.set()
            our_end.close()  # the processes end now, before their results are cleared
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            our_end.close()
            lifeline.close()


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


_between_items = threading.Lock()  # held while a process has no item, and may send its result
_LONGEST_SEND = 30.0  # seconds, after which a process ends in any case


def _start_process(
    lifeline: Connection, stopping: Event, roots: Sequence[Path], quiet: bool
) -> None:
    """Prepare a process: it writes where its parent may, and ends with it."""
    import cv2

    _between_items.acquire()
    threading.Thread(target=_end_with, args=(lifeline, stopping), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    adopt_roots(roots)
    set_quiet(quiet)
    cv2.setNumThreads(1)
    keep_freed_memory()


def _work_on(work: Work[Item, Result], items: Sequence[Item]) -> list[Result]:
    """See `work_on`. Within it, the process may end."""
    _between_items.release()
    try:
        return work_on(work, items)
    finally:
        _between_items.acquire()


def _end_with(lifeline: Connection, stopping: Event) -> None:
    """Wait until the other end of a pipe is closed, as it also is when its process is killed, and
    end this process. A parent that goes on never gets half of a result: it would wait for the rest
    for ever."""
    with suppress(OSError, EOFError):
        lifeline.poll(None)
    if stopping.is_set():
        _between_items.acquire(timeout=_LONGEST_SEND)
    os._exit(0)
