"""The same work on every item: in this process, in several, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pipeline.errors import ConfigError
from pipeline.runners.base import Item, Result, Runner, Work
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.runtime.threads import available_cpus

_MIN_ITEMS_FOR_PROCESSES = 64  # below, starting processes takes longer than the work


def map_items(
    work: Work[Item, Result], items: Sequence[Item], runner: Runner = "local", workers: int = 0
) -> Generator[Result, None, None]:
    """Yield `work(item)` for each item, in the items' order, with only a few results in memory.

    Close the generator where its reader may fail: the rest of the work then ends at once.

    workers: processes; 0 takes one for each core, and none for a few items. With several, `work`
    must be picklable. Raises what `work` raises, and ConfigError for the runner "ray" where Ray is
    not installed.
    """
    if workers < 0:
        raise ConfigError(f"workers: {workers} is below 0; give 0 for one on each core")
    if runner == "ray":
        from pipeline.runners.ray import map_over_ray

        yield from map_over_ray(work, items, workers)
        return
    count = workers or (available_cpus() if len(items) >= _MIN_ITEMS_FOR_PROCESSES else 1)
    if count == 1:
        keep_freed_memory()
        yield from map(work, items)
        return
    from pipeline.runners.local import map_over_processes

    yield from map_over_processes(work, items, count)


__all__ = ["Runner", "map_items"]
