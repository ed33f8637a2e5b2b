"""The same work on every item: in this process, in several, or on a cluster."""

from __future__ import annotations

import logging
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Literal, TypeVar

from pipeline.errors import ConfigError, PipelineError
from pipeline.memory import keep_freed_memory

Engine = Literal["local", "ray"]
Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Item], Result]

_BATCH = 16  # items a process takes at once
_FEW = 64  # below, starting processes takes longer than the work


def run_over(
    work: Work[Item, Result], items: Sequence[Item], engine: Engine = "local", workers: int = 0
) -> Iterator[Result]:
    """Yield `work(item)` for each item, in the items' order, holding only a few results at a time.

    workers: processes; 0 takes a process for each core, and none for a few items. `work` must be
    picklable where there are several. Raises what `work` raises, ConfigError where Ray is asked for
    and is not installed.
    """
    if engine == "ray":
        yield from _over_ray(work, items, workers)
        return
    count = workers or (os.cpu_count() or 1 if len(items) >= _FEW else 1)
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
    pending: deque[Future[list[Result]]] = deque()
    with ProcessPoolExecutor(workers, context, initializer=_start_process) as pool:
        try:
            for start in range(0, len(items), _BATCH):
                pending.append(pool.submit(_work_on, work, items[start : start + _BATCH]))
                if len(pending) > 2 * workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        except BrokenProcessPool as error:
            raise PipelineError(
                "a process was ended from outside, perhaps for want of memory; use fewer --workers"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_process() -> None:
    """The parent alone hears Ctrl-C, and ends its processes."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    keep_freed_memory()


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
            '--engine ray: Ray is not installed; pip install -e ".[ray]", or use --engine local'
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

        def on_batch(row: dict[str, bytes]) -> dict[str, bytes]:
            keep_freed_memory()
            return {"results": pickle.dumps(_work_on(work, pickle.loads(row["items"])))}

        done = ray.data.from_items(batches).map(on_batch, concurrency=workers or None)
        for row in done.iter_rows():
            yield from pickle.loads(row["results"])
    finally:
        if started:
            ray.shutdown()
