"""The same work on every item: in this process, in several, or on a cluster."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, TypeVar

from pipeline.errors import ConfigError, PipelineError
from pipeline.io.write import adopt_roots, open_roots
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.runtime.progress import is_quiet, set_quiet
from pipeline.runtime.threads import available_cpus

Runner = Literal["local", "ray"]
Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Item], Result]

_BATCH = 16  # items a process takes at once
_FEW = 64  # below, starting processes takes longer than the work


def map_items(
    work: Work[Item, Result], items: Sequence[Item], runner: Runner = "local", workers: int = 0
) -> Generator[Result, None, None]:
    """Yield `work(item)` for each item, in the items' order, holding only a few results at a time.

    Close the generator where its reader may fail: what is left of the work then ends at once.

    workers: processes; 0 takes a process for each core, and none for a few items. `work` must be
    picklable where there are several. Raises what `work` raises, ConfigError where Ray is asked for
    and is not installed.
    """
    if workers < 0:
        raise ConfigError(f"workers: {workers} is below 0; give 0 for one on each core")
    if runner == "ray":
        yield from _over_ray(work, items, workers)
        return
    count = workers or (available_cpus() if len(items) >= _FEW else 1)
    if count == 1:
        keep_freed_memory()
        yield from map(work, items)
    else:
        yield from _over_processes(work, items, count)


def _over_processes(
    work: Work[Item, Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    import multiprocessing

    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    lifeline, held = context.Pipe(duplex=False)
    start = (lifeline, open_roots(), is_quiet())
    pending: deque[Future[list[Result]]] = deque()
    with _signals_for_this_process_alone():  # creating a pool starts a process too
        pool = ProcessPoolExecutor(workers, context, initializer=_start_process, initargs=start)
    with pool:
        try:
            for first in range(0, len(items), _BATCH):
                with _signals_for_this_process_alone():
                    pending.append(pool.submit(_work_on, work, items[first : first + _BATCH]))
                if len(pending) > 2 * workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        except BrokenProcessPool as error:
            raise PipelineError(
                "a process was ended from outside, perhaps for want of memory; use fewer --workers"
            ) from error
        except BaseException:
            held.close()  # nobody wants what they are at: they end now, before anything is cleared
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            held.close()
            lifeline.close()


@contextmanager
def _signals_for_this_process_alone() -> Iterator[None]:
    """Processes that start within the block never get Ctrl-C or a hangup: not even before they are
    so far that they could pass them over. Their parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    kept = (signal.SIGINT, signal.SIGHUP)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, kept)
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, kept)  # starting the tracker lifts Ctrl-C's
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_process(lifeline: Connection, roots: Sequence[Path], quiet: bool) -> None:
    """Prepare a process: it writes where its parent may, and ends with it."""
    import cv2

    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    adopt_roots(roots)
    set_quiet(quiet)
    cv2.setNumThreads(1)
    keep_freed_memory()


def _end_with(lifeline: Connection) -> None:
    """Wait until the other end of a pipe is closed, as it also is when its process is killed."""
    with suppress(OSError, EOFError):
        lifeline.poll(None)
    os._exit(0)


def _work_on(work: Work[Item, Result], items: Sequence[Item]) -> list[Result]:
    return [work(item) for item in items]


def _over_ray(work: Work[Item, Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Ray Data streams batches through a cluster and hands results back in order.

    Every machine must see the same files under the same paths, as on a shared disk.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            '--runner ray: Ray is not installed; pip install -e ".[ray]", or use --runner local'
        ) from error
    started = not ray.is_initialized()
    if started:
        cores = None if os.environ.get("RAY_ADDRESS") else workers or None  # a cluster has its own
        ray.init(log_to_driver=False, logging_level=logging.ERROR, num_cpus=cores)
    try:
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        batches = [
            {"items": pickle.dumps(items[start : start + _BATCH])}
            for start in range(0, len(items), _BATCH)
        ]

        roots, quiet = open_roots(), is_quiet()

        def on_batch(row: dict[str, bytes]) -> dict[str, bytes]:
            adopt_roots(roots)
            set_quiet(quiet)
            keep_freed_memory()
            try:
                return {"results": pickle.dumps(_work_on(work, pickle.loads(row["items"])))}
            except PipelineError as error:  # Ray would make its traceback part of its text
                return {"results": pickle.dumps(error)}

        done = ray.data.from_items(batches).map(on_batch, concurrency=workers or None)
        for row in done.iter_rows():
            results = pickle.loads(row["results"])
            if isinstance(results, PipelineError):
                raise results
            yield from results
    finally:
        if started:
            ray.shutdown()
