"""Runners that cannot be used, or not yet: one line, before any work."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from small import CallPipeline

from pipeline.errors import ConfigError
from pipeline.runners import Runner, map_items
from pipeline.runners.ray import _Actors, _join
from pipeline.runtime.progress import set_quiet


def test_without_ray_the_remedy_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install -e \"\.\[ray\]\""):
        list(map_items(abs, range(3), "ray"))


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("runner", ["local", "ray"])
def test_fewer_than_no_workers_are_refused(runner: Runner, count: int) -> None:
    with pytest.raises(ConfigError, match="workers: -1 is below 0"):
        list(map_items(abs, range(count), runner, -1))


@pytest.mark.parametrize(
    "command",
    [
        ("convert-masks", "none"),
        ("segment", "--boxes", "none.json", "--images", "none"),
        ("label", "--model", "none", "--images", "none"),
        ("predict", "none", "--model", "none"),
        ("anomaly", "--data", "none"),
        ("audit", "none"),
    ],
)
def test_a_runner_that_cannot_be_used_is_refused_before_any_work(
    command: tuple[str, ...],
    tmp_path: Path,
    call_pipeline: CallPipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    for options, reason in (
        (("--workers", "-1"), "workers: -1 is below 0; give 0 for one on each core"),
        (("--runner", "ray"), "--runner ray: Ray is not installed; pip install"),
    ):
        ended = call_pipeline(*command, "-o", "out", *options)
        assert ended.is_refused(reason), ended
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "reason"),
    [("127.0.0.1:9", "Connection refused"), ("auto", "no cluster")],
)
def test_an_address_where_no_cluster_of_ray_answers_is_one_line(address: str, reason: str) -> None:
    class NoRay(ModuleType):
        def init(self, **_: object) -> None:
            raise ConnectionError("no cluster\nof several lines")

    with pytest.raises(ConfigError, match=f"RAY_ADDRESS {address}: no cluster of Ray") as error:
        _join(NoRay("ray"), address, {})
    assert reason in str(error.value)
    assert str(error.value).endswith("start it, or unset RAY_ADDRESS for one on this machine")
    assert "\n" not in str(error.value)


class Crowded:
    """Ray on a cluster whose machines are busy: the second wait for an actor ends."""

    def __init__(self) -> None:
        self.waits: list[float | None] = []
        self.__ray_ready__ = self.__call__ = self  # of an actor

    def remote(self, *given: object) -> str:
        return "result" if given else "started"

    def wait(
        self, waits: list[Any], num_returns: int, timeout: float | None = None
    ) -> tuple[list[Any], list[Any]]:
        self.waits.append(timeout)
        return ([], waits) if len(self.waits) == 1 else (waits[:1], waits[1:])

    def get(self, _: str) -> bytes:
        return b"done"


def test_a_cluster_without_room_for_a_worker_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    set_quiet(False)
    ray: Any = Crowded()
    actors = _Actors(ray, lambda: ray, 1)
    actors.give(0, b"items")
    assert actors.receive() == (0, b"done")
    assert capfd.readouterr().err == (
        "--runner ray: no worker has started yet; it waits for a machine with a free CPU\n"
    )
    assert ray.waits[:2] == [60.0, None]
