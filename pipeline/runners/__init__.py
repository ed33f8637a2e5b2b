"""The same work on every item: in this process, in several, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from importlib.util import find_spec

from pipeline.errors import ConfigError
from pipeline.runners.base import (
    BATCH,
    BatchWork,
    Item,
    PerProcess,
    Result,
    Runner,
    Work,
    work_on,
)
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.runtime.threads import available_cpus

_MIN_ITEMS_FOR_PROCESSES = 64  # below, starting processes takes longer than the work


def map_items(
    work: Work[Item, Result], items: Sequence[Item], runner: Runner = "local", workers: int = 0
) -> Generator[Result, None, None]:
    """Yield `work(item)` for each item; see `map_batches`."""
    return map_batches(partial(work_on, work=work), items, runner, workers)


def map_batches(
    work: BatchWork[Item, Result],
    items: Sequence[Item],
    runner: Runner = "local",
    workers: int = 0,
    batch: int = BATCH,
) -> Generator[Result, None, None]:
    """Yield the results of `work` in the items' order, with only a few in memory.

    Close the generator where its reader may fail: the rest of the work then ends at once.

    work: yields one result for each item, in order. This process gives it all items at once.
    Several processes get it once each, so it must be picklable; what is large in it is a
    `PerProcess`. Each computes with as many threads as this process would: with another number, the
    last digits of sums differ. workers: processes; 0 takes one for each core, and none for a few
    items. batch: items that another process takes at once. Raises what `work` raises, and as
    `check_runner` does.
    """
    check_runner(runner, workers)
    if not items:
        return
    if runner == "ray":
        from pipeline.runners.ray import map_over_ray

        yield from map_over_ray(work, items, workers, batch)
        return
    count = workers or (available_cpus() if len(items) >= _MIN_ITEMS_FOR_PROCESSES else 1)
    if count == 1:
        keep_freed_memory()
        yield from work(items)
        return
    from pipeline.runners.local import map_over_processes

    yield from map_over_processes(work, items, count, batch)


def check_runner(runner: Runner, workers: int) -> None:
    """Raise ConfigError for workers below 0, and for the runner "ray" where Ray is not installed.
    Commands call it first: before `map_batches`, they may learn for hours."""
    if workers < 0:
        raise ConfigError(f"workers: {workers} is below 0; give 0 for one on each core")
    if runner == "ray" and find_spec("ray") is None:
        raise ConfigError(
            '--runner ray: Ray is not installed; pip install -e ".[ray]", or use --runner local'
        )


__all__ = ["PerProcess", "Runner", "check_runner", "map_batches", "map_items"]
