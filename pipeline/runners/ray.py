"""Work on a Ray cluster: actors of Ray's own, each of which keeps its models.

This process gives batches to the actors that run, and no more than they can hold. A batch whose
actor is lost, with its machine or without, goes to another one.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pipeline.errors import ConfigError, PipelineError
from pipeline.runners.base import (
    IN_FLIGHT,
    BatchWork,
    BatchWorker,
    Item,
    Result,
    as_start,
    in_order,
)
from pipeline.runtime.progress import say
from pipeline.runtime.threads import available_cpus

_TRIES = 4  # of a batch, or of starts one after the other
_ANSWER_S = 10.0  # in which a cluster that runs answers
_LONG_S = 60.0  # without a worker, until a line says so
_ON_A_BUSY_MACHINE = {
    "worker_niceness": 0,  # by default 15 below all other work, which then gets nearly all CPUs
    "agent_register_timeout_ms": 600_000,  # by default half a minute: the cluster would end
    "worker_register_timeout_seconds": 600,
}
_OBJECTS = 200 * 2**20  # bytes of shared memory: results are texts


def map_over_ray(
    work: BatchWork[Item, Result], items: Sequence[Item], workers: int, batch: int
) -> Iterator[Result]:
    """See `map_batches`: actors work on batches and hand their results back. They share the
    cluster's GPUs, where it has any.

    Every machine must see the same files under the same paths, as on a shared disk. Raises
    PipelineError where a batch, or the start of an actor, fails several times, and ConfigError
    where RAY_ADDRESS names no cluster.
    """
    import ray

    with open_cluster(ray, workers):
        cluster: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = int(cluster.get("GPU", 0))
        count = workers or gpus or max(1, int(cluster.get("CPU", 1)))
        count = min(count, -(-len(items) // batch))
        share = _share(gpus, count)
        actor = ray.remote(BatchWorker).options(num_cpus=1, num_gpus=share)
        start = ray.put(as_start(work))
        actors = _Actors(ray, lambda: actor.remote(start), count)
        try:
            yield from in_order(items, batch, actors, count)
        finally:
            actors.kill()


def _share(gpus: int, count: int) -> float:
    """The part of a GPU for each of `count` actors, in Ray's steps of 0.0001: 0 without one."""
    return 10_000 // -(-count // gpus) / 10_000 if gpus else 0.0


@contextmanager
def open_cluster(ray: ModuleType, workers: int) -> Iterator[None]:
    """The cluster that this process uses already; else the one of RAY_ADDRESS, or one that starts
    on this machine and ends with the block. workers: CPUs of that one; 0 for all of this
    machine. Raises ConfigError where RAY_ADDRESS names no cluster."""
    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address := os.environ.get("RAY_ADDRESS"):
        _join(ray, address, quiet)
    else:
        ray.init(
            address="local",  # not another program's cluster, which Ray would join
            num_cpus=workers or available_cpus(),
            object_store_memory=_OBJECTS,
            include_dashboard=False,  # one server less that can fail to start
            _system_config=_ON_A_BUSY_MACHINE,
            **quiet,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _join(ray: ModuleType, address: str, quiet: dict[str, Any]) -> None:
    """Join the cluster of RAY_ADDRESS. Raises ConfigError where none answers: Ray would try for
    minutes."""
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit() and "://" not in address:
            socket.create_connection((host, int(port)), _ANSWER_S).close()
        ray.init(**quiet)
    except (OSError, RuntimeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ConfigError(
            f"RAY_ADDRESS {address}: no cluster of Ray answers ({reason}); start it, or unset "
            "RAY_ADDRESS for one on this machine"
        ) from error


@dataclass
class _Batch:
    """tries: so many actors had it."""

    number: int
    items: bytes
    tries: int = 0


class _Actors:
    """The actors of one call: `Workers`. An actor gets batches from when it runs, so that none
    waits for a machine that is not there."""

    def __init__(self, ray: ModuleType, create: Callable[[], Any], count: int) -> None:
        self._ray, self._create, self._count = ray, create, count
        self._starting: dict[Any, Any] = {}  # actors, by what is ready when they run
        self._held: dict[Any, int] = {}  # batches of each actor that runs
        self._working: dict[Any, tuple[Any, _Batch]] = {}  # by what is ready when they are done
        self._waiting: deque[_Batch] = deque()
        self._failed_starts = 0
        for _ in range(count):
            self._start()

    def take_more(self) -> bool:
        return len(self._waiting) + len(self._working) < IN_FLIGHT * self._count

    def give(self, number: int, items: bytes) -> None:
        self._waiting.append(_Batch(number, items))

    def receive(self) -> tuple[int, bytes]:
        while True:
            self._hand_out()
            ready = self._next_ready()
            if ready in self._starting:
                self._started(ready)
                continue
            actor, batch = self._working.pop(ready)
            try:
                results: bytes = self._ray.get(ready)
            except self._ray.exceptions.RayError as error:
                self._lose(actor, batch, error)
                continue
            self._held[actor] -= 1
            return batch.number, results

    def _next_ready(self) -> Any:
        """What is ready first; says so where no worker has a place for long."""
        waits = [*self._working, *self._starting]
        ready, _ = self._ray.wait(waits, num_returns=1, timeout=_LONG_S)
        if not ready and not self._held:
            say("--runner ray: no worker has started yet; it waits for a machine with a free CPU")
        while not ready:
            ready, _ = self._ray.wait(waits, num_returns=1)
        return ready[0]

    def kill(self) -> None:
        """End the actors, whatever they do."""
        for actor in [*self._held, *self._starting.values()]:
            self._ray.kill(actor)

    def _hand_out(self) -> None:
        """Give batches to the actors that hold the fewest."""
        while self._waiting and self._held:
            actor = min(self._held, key=lambda actor: self._held[actor])
            if self._held[actor] >= IN_FLIGHT:
                return
            batch = self._waiting.popleft()
            self._working[actor.__call__.remote(batch.items)] = actor, batch
            self._held[actor] += 1

    def _start(self) -> None:
        actor = self._create()
        self._starting[actor.__ray_ready__.remote()] = actor

    def _started(self, ready: Any) -> None:
        actor = self._starting.pop(ready)
        try:
            self._ray.get(ready)
        except self._ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= _TRIES:
                raise _given_up("a worker does not start", error) from error
            self._start()
        else:
            self._failed_starts = 0
            self._held[actor] = 0

    def _lose(self, actor: Any, batch: _Batch, error: Exception) -> None:
        """Another actor does the batch of one that is lost."""
        batch.tries += 1
        if batch.tries >= _TRIES:
            raise _given_up("a worker was lost", error) from error
        self._waiting.appendleft(batch)
        if self._held.pop(actor, None) is not None:
            self._ray.kill(actor)  # it may be out of reach alone
            self._start()


def _given_up(what: str, error: Exception) -> PipelineError:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return PipelineError(
        f"--runner ray: {what}, {_TRIES} times ({reason}); see the logs of Ray, or use fewer "
        "--workers"
    )
