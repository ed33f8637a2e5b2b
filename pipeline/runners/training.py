"""A training in several processes of a Ray cluster, which Ray Train starts and joins.

Each process does the same work; `models.processes` gives it its share of every batch. The first
one's result is that of the work.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import ConfigError, PipelineError
from pipeline.runners.base import Runner, adopt, surroundings
from pipeline.runners.ray import open_cluster
from pipeline.runtime import signals
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.runtime.progress import Event, Shown, set_quiet, show_elsewhere
from pipeline.runtime.threads import working_threads

if TYPE_CHECKING:
    import torch

Learned = TypeVar("Learned")
LearningWork = Callable[["torch.device"], Learned]

_NEEDED = ("ray", "pandas", "pyarrow", "requests")  # by Ray Train, in the extra
_LOOK_S = 1.0  # between two looks at a training
_OF_PEERS = ("gloo", "NCCL", "Connection closed by peer")  # in errors where another process ended
_LOST = (
    "--runner ray: a worker was lost while it learned, perhaps because memory ran out; give the "
    "same command again, which goes on, or fewer --workers"
)


def check_training(runner: Runner, workers: int, batch: int) -> None:
    """Raise ConfigError for fewer workers than one, for more than a batch has items, for several
    without Ray, and for the runner "ray" where Ray Train is not installed."""
    if workers < 1:
        raise ConfigError(f"--workers {workers}: a training needs 1 at least")
    if runner == "local" and workers > 1:
        raise ConfigError(
            f"--workers {workers}: several processes learn together with --runner ray"
        )
    if workers > batch:
        raise ConfigError(
            f"--workers {workers}: a batch of {batch} has no share for each; give {batch} at most, "
            "or a larger --batch"
        )
    if runner == "ray" and any(find_spec(name) is None for name in _NEEDED):
        raise ConfigError(
            '--runner ray: Ray Train is not installed; pip install -e ".[ray]", or leave out '
            "--runner"
        )


@contextmanager
def training_cluster(runner: Runner, workers: int) -> Iterator[None]:
    """One cluster for all trainings in the block; nothing for the runner "local"."""
    if runner == "local":
        yield
        return
    import ray

    with open_cluster(ray, workers):
        yield


def train_on(
    work: LearningWork[Learned], device: torch.device, runner: Runner = "local", workers: int = 1
) -> Learned:
    """What `work` returns, which gets the device on which it learns.

    For the runner "ray", it is done by `workers` processes that form torch's process group, each
    on a GPU of its own where `device` is one, and else on CPUs; their share of this machine's
    threads. It begins with torch's random state of this process, which afterwards is that of the
    first one. Work and result must be picklable. Raises what `work` raises, PipelineError where a
    process is lost, and ConfigError where the cluster has too few CPUs or GPUs.
    """
    if runner == "local":
        return work(device)
    import ray
    import torch

    with (
        training_cluster(runner, workers),
        TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        use_gpu = device.type == "cuda"
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        _check_room(resources, workers, use_gpu)
        events, shown = ray.remote(_Events).options(num_cpus=0).remote(), Shown()
        learn = partial(_learn, surroundings(), torch.get_rng_state(), work, events)
        training = _Training(partial(_fit, learn, workers, use_gpu, folder))
        try:
            while not training.wait(_LOOK_S):
                signals.check()
                _show_new(ray, events, shown)
            _show_new(ray, events, shown)
        except BaseException:
            ray.shutdown()  # ends the processes of this training
            raise
        finally:
            shown.close()
        result, random = pickle.loads(training.result())
    torch.set_rng_state(random)
    learned: Learned = result
    return learned


def _check_room(resources: dict[str, float], workers: int, use_gpu: bool) -> None:
    """Raise ConfigError where there is not one CPU, or GPU, for each worker: Ray would wait."""
    name, remedy = ("GPU", " or --device cpu") if use_gpu else ("CPU", " or a larger cluster")
    there = int(resources.get(name, 0))
    if there < workers:
        raise ConfigError(
            f"--workers {workers}: the cluster has {there} {name}s, and each worker needs one; "
            f"give fewer,{remedy}"
        )


def _fit(learn: Callable[[], bytes | None], workers: int, use_gpu: bool, folder: str) -> bytes:
    """What Ray Train's first process returns. folder: for Ray's own files."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")  # on a busy machine
    trainer: Any = TorchTrainer(  # of version 2: mypy sees the first one
        learn,  # type: ignore[arg-type]
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(name="training", storage_path=folder),
    )
    returned: bytes = trainer.fit().return_value
    return returned


def _learn(
    around: bytes, random: torch.Tensor, work: LearningWork[Any], events: Any
) -> bytes | None:
    """What a process does. Returns the pickled result and random state in the first one."""
    import cv2
    import torch
    from ray.train import get_context

    context = get_context()
    adopt(around)
    if context.get_world_rank():
        set_quiet(True)
    show_elsewhere(events.put.remote)
    cv2.setNumThreads(1)
    keep_freed_memory()
    torch.set_num_threads(max(1, working_threads() // context.get_local_world_size()))
    torch.set_rng_state(random)
    use_gpu = torch.distributed.get_backend() == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if use_gpu else torch.device("cpu")
    result = work(device)
    return None if context.get_world_rank() else pickle.dumps((result, torch.get_rng_state()))


class _Events:
    """Bars and messages of the workers, until this process shows them: an actor."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def put(self, event: Event) -> None:
        self._events.append(event)

    def take(self) -> list[Event]:
        taken, self._events = self._events, []
        return taken


def _show_new(ray: Any, events: Any, shown: Shown) -> None:
    with suppress(ray.exceptions.RayError):  # what is shown is worth no training
        for event in ray.get(events.take.remote()):
            shown.show(event)


class _Training:
    """A training that runs in a thread: in the main thread, Ray Train takes Ctrl-C for itself."""

    def __init__(self, fit: Callable[[], bytes]) -> None:
        self._fit = fit
        self._result = b""
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> bytes:
        """What it returned. Raises what a process raised, or PipelineError for a lost one."""
        if self._error is not None:
            raise _cause(self._error) from self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._fit()
        except Exception as error:
            self._error = error


def _cause(error: Exception) -> Exception:
    """The error of the work among those of Ray Train, or the line for a process that is lost."""
    failures = list(getattr(error, "worker_failures", {}).values())
    raised = [own for own in failures if not _is_loss(own)]
    if raised:
        own: Exception = min(raised, key=lambda own: not isinstance(own, PipelineError))
        if not isinstance(own, PipelineError):
            own.add_note(str(error))  # its place in the program
        return own
    if failures:
        return PipelineError(_LOST)
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return PipelineError(f"--runner ray: Ray ended the training ({reason}); see the logs of Ray")


def _is_loss(error: Exception) -> bool:
    """Whether Ray lost a process, or a process lost another one with which it learned."""
    of_ray = type(error).__module__.startswith("ray.")
    return of_ray or any(word in str(error) for word in _OF_PEERS)
