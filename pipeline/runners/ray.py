"""Work on a Ray cluster."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator, Sequence

from pipeline.errors import ConfigError, PipelineError
from pipeline.io.write import adopt_roots, open_roots
from pipeline.runners.base import BATCH, Item, Result, Work, work_on
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.runtime.progress import is_quiet, set_quiet


def map_over_ray(work: Work[Item, Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """See `map_items`: Ray Data streams batches through a cluster and hands results back in order.

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
        here = not os.environ.get("RAY_ADDRESS")  # else a cluster that has cores of its own
        ray.init(
            log_to_driver=False,
            logging_level=logging.ERROR,
            num_cpus=workers or None if here else None,
            include_dashboard=False if here else None,  # one server less that can fail to start
        )
    try:
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        batches = [
            {"items": pickle.dumps(items[start : start + BATCH])}
            for start in range(0, len(items), BATCH)
        ]

        roots, quiet = open_roots(), is_quiet()

        def on_batch(row: dict[str, bytes]) -> dict[str, bytes]:
            adopt_roots(roots)
            set_quiet(quiet)
            keep_freed_memory()
            try:
                return {"results": pickle.dumps(work_on(work, pickle.loads(row["items"])))}
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
