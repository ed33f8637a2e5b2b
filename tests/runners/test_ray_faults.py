"""Ray where something is lost: a machine, an actor, the process that gives the work."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from discs import OPTIONS, QUICK, bytes_of, discs, finished_images

from pipeline.io.work_log import LOG
from pipeline.stages.segment import segment

pytestmark = pytest.mark.slow
_TOO_LONG = 900.0  # seconds; a cluster of three machines starts in about 15

CLUSTER = """
import logging, os, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
folder = Path(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from discs import QUICK, finished_images
from pipeline.errors import PipelineError
from pipeline.io.work_log import LOG
from pipeline.runners import map_items
from pipeline.stages.segment import segment

cluster = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 0, "include_dashboard": False, "_system_config": {"worker_niceness": 0}})
machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)

def lose(name, images):
    log = folder / f".{name}.unfinished" / LOG
    while finished_images(log) < images:
        time.sleep(0.01)
    cluster.remove_node(machines.pop(), allow_graceful=False)
    lines.append(f"{name}: a machine is lost")

lines = []
for name, images in (("early", 0), ("late", 9)):
    loss = threading.Thread(target=lose, args=(name, images))
    loss.start()
    segment(folder / "images", folder / name, QUICK, device="cpu", boxes=folder / "boxes.json",
            keep_going=True, runner="ray", workers=2)
    lines.append(f"{name}: done")
    loss.join()
    machines.append(cluster.add_node(num_cpus=1))
try:
    list(map_items(os._exit, [9], "ray", 1))
except PipelineError as error:
    lines.append(str(error))
ray.shutdown()
(folder / "lines").write_text("\\n".join(lines))  # stdout has Ray's own
"""


def test_a_machine_that_is_lost_costs_no_image_and_work_that_always_fails_ends(
    tmp_path: Path,
) -> None:
    prompts = discs(tmp_path, 60)
    (tmp_path / "images" / "6.png").write_bytes(b"no image")
    script = subprocess.run(
        [sys.executable, "-c", CLUSTER, tmp_path, Path(__file__).parent.parent],
        capture_output=True, text=True, timeout=_TOO_LONG, check=False,
    )  # fmt: skip
    assert script.returncode == 0, script.stderr
    *losses, given_up = (tmp_path / "lines").read_text().splitlines()
    each = ("a machine is lost", "done")
    assert losses == [f"{name}: {event}" for name in ("early", "late") for event in each]
    assert given_up.startswith("--runner ray: a worker was lost, 4 times (")
    whole = tmp_path / "whole"
    segment(tmp_path / "images", whole, QUICK, device="cpu", boxes=prompts, keep_going=True)
    assert bytes_of(whole) == bytes_of(tmp_path / "early") == bytes_of(tmp_path / "late")


def test_a_call_on_ray_that_is_killed_goes_on(tmp_path: Path) -> None:
    prompts, images = discs(tmp_path, 30), tmp_path / "images"
    log = tmp_path / ".out.unfinished" / LOG
    call: list[str | Path] = [
        sys.executable, "-m", "pipeline", "segment", "--boxes", prompts, "--images", images,
        "-o", tmp_path / "out", "--runner", "ray", "--workers", "2", *OPTIONS,
    ]  # fmt: skip
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not finished_images(log):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=_TOO_LONG)  # Ray's processes hold its stdout open
    kept = finished_images(log)
    assert 1 <= kept < 30
    mask = Path("masks", "0.png")
    before = (tmp_path / ".out.unfinished" / mask).stat().st_mtime_ns
    segment(images, tmp_path / "out", QUICK, device="cpu", boxes=prompts)
    assert (tmp_path / "out" / mask).stat().st_mtime_ns == before  # done once
    segment(images, tmp_path / "whole", QUICK, device="cpu", boxes=prompts)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
