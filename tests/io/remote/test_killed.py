"""A command that is killed in the middle of a download or an upload goes on, to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from buckets import Bucket, Environment, Fault, without_runs
from small import CallPipeline, draw_product

from pipeline.io.remote.addresses import forget_addresses
from pipeline.io.remote.marker import MARKER

pytestmark = pytest.mark.slow


def hangs_after(count: int, method: str, reached: threading.Event) -> Fault:
    """Requests of a method after the first `count` hang: then the process can be killed."""
    seen = [0]

    def choose(request: Environment) -> str:
        path = request["PATH_INFO"]
        if request["REQUEST_METHOD"] == method and "." in path and MARKER not in path:
            seen[0] += 1
            if seen[0] > count:
                reached.set()
                return "hangs"
        return ""

    return choose


def kill_at(bucket: Bucket, count: int, method: str, *arguments: str) -> None:
    """Call the command in a process of its own, and kill it after `count` requests."""
    reached = threading.Event()
    bucket.spoil(hangs_after(count, method, reached))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert reached.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    bucket.spoil(lambda _: "")


@pytest.mark.parametrize(("method", "count"), [("GET", 1), ("GET", 9), ("PUT", 1), ("PUT", 9)])
def test_the_same_call_ends_with_the_same_bytes(
    method: str,
    count: int,
    bucket: Bucket,
    tmp_path: Path,
    call_pipeline: CallPipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket.put(draw_product(tmp_path / "widget"), "widget")
    whole = ("convert-masks", f"{bucket.address}/widget", "-o", f"{bucket.address}/whole")
    assert call_pipeline(*whole, "--workers", "1").code == 0
    torn = (*whole[:-1], f"{bucket.address}/torn", "--workers", "1")
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "other"))
    kill_at(bucket, count, method, *torn)
    bucket.requests.clear()
    forget_addresses()
    ended = call_pipeline(*torn)
    assert ended.code == 0, ended.stderr
    assert without_runs(bucket.files("torn")) == without_runs(bucket.files("whole"))
    if method == "PUT":  # the work is not done again, and nothing is fetched
        assert not [name for name in bucket.gets() if name.startswith("widget")]
        assert f"output: {bucket.address}/torn\n" in ended.stdout
