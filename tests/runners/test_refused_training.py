"""Trainings in several processes that cannot be: one line, before any work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from small import CallPipeline

from pipeline.errors import ConfigError, PipelineError
from pipeline.runners import Runner
from pipeline.runners.training import _cause, check_training, training_cluster


@pytest.mark.parametrize("command", ["finetune-segmenter", "finetune-sam"])
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--workers", "0"], "--workers 0: a training needs 1 at least"),
        (["--runner", "ray", "--workers", "-1"], "--workers -1: a training needs 1 at least"),
        (["--workers", "2"], "--workers 2: several processes learn together with --runner ray"),
        (
            ["--runner", "ray", "--workers", "4", "--batch", "3"],
            "--workers 4: a batch of 3 has no share for each; give 3 at most, or a larger --batch",
        ),
        (["--runner", "ray"], "--runner ray: Ray Train is not installed; pip install"),
    ],
)
def test_a_training_that_cannot_be_is_refused_before_any_work(
    command: str,
    options: list[str],
    reason: str,
    tmp_path: Path,
    call_pipeline: CallPipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    ended = call_pipeline(command, "--data", "none", "-o", "out", *options)
    assert ended.is_refused(reason), ended
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["ray", "pandas", "pyarrow", "requests"])
def test_ray_train_needs_more_than_ray(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"Ray Train is not installed; pip install -e \"\.\[ray"):
        check_training("ray", 2, 2)


@pytest.mark.parametrize(("runner", "workers"), [("local", 1), ("ray", 1), ("ray", 6)])
def test_as_many_workers_as_a_batch_has_items_are_no_fault(runner: Runner, workers: int) -> None:
    check_training(runner, workers, 6)


def test_without_ray_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with training_cluster("local", 1):
        pass


class FailedError(Exception):
    """As Ray Train's error: what each process raised, or that it is gone."""

    def __init__(self, *raised: Exception) -> None:
        super().__init__("Training failed due to worker errors:\nof several lines")
        self.worker_failures = dict(enumerate(raised))


class GoneError(Exception):
    """A process that ended: an error of Ray's own."""

    __module__ = "ray.train.v2"


GONE = GoneError("a worker's health check failed")
PEER = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
FAULT, BUG = PipelineError("photo.png: is no image"), ZeroDivisionError("division by zero")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            FailedError(),
            "--runner ray: Ray ended the training (Training failed due to worker err",
        ),
        (OSError("no room\nat all"), "--runner ray: Ray ended the training (no room); see"),
        (FailedError(GONE), "--runner ray: a worker was lost while it learned"),
        (FailedError(PEER, GONE), "--runner ray: a worker was lost while it learned"),
        (FailedError(PEER), "--runner ray: a worker was lost while it learned"),
        (FailedError(PEER, FAULT), "photo.png: is no image"),
        (FailedError(GONE, BUG, FAULT), "photo.png: is no image"),
        (FailedError(PEER, BUG), "division by zero"),
    ],
)
def test_the_error_of_a_training_is_that_of_the_process_which_began_it(
    error: Exception, line: str
) -> None:
    assert str(_cause(error)).startswith(line)
