"""`label` where workers and machines are lost: the bytes of one undisturbed process."""

from __future__ import annotations

from pathlib import Path

import pytest
from child_processes import output_of
from discs import bytes_of, discs, untrained_segmenter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="only Linux lists children"),
]
POINTS = (0, 5, 12, 20, 29)  # images that are finished when a worker is killed
IMAGES = 60
TESTS = Path(__file__).parent.parent  # where the scripts find `discs`


WHOLE = """
import sys
from pathlib import Path
from pipeline.stages.label import label
root = Path(sys.argv[1])
label(root / "model", root / "images", root / "whole", device="cpu", keep_going=True)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, of which one is no image, a model, and the labels of one process: `whole`."""
    root = tmp_path_factory.mktemp("faults")
    discs(root, IMAGES)
    (root / "images" / "6.png").write_bytes(b"no image")
    untrained_segmenter(root / "model")
    output_of(WHOLE, root)
    return root


LOCAL = """
import multiprocessing, sys, threading, time
from pathlib import Path
from pipeline.errors import PipelineError
from pipeline.io.work_log import LOG
from pipeline.stages.label import label
root = Path(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from discs import finished_images
log = root / ".local.unfinished" / LOG

def kill(images):
    while finished_images(log) < images or not multiprocessing.active_children():
        time.sleep(0.001)
    multiprocessing.active_children()[-1].kill()

def labelled(workers):
    label(root / "model", root / "images", root / "local", device="cpu", keep_going=True,
          workers=workers)

for images in map(int, sys.argv[3:]):
    killer = threading.Thread(target=kill, args=(max(images, finished_images(log)),))
    killer.start()
    try:
        labelled(2)
    except PipelineError as error:
        print(finished_images(log), error)
    killer.join()
labelled(1)
"""


def test_local_workers_that_are_killed_at_five_points_cost_a_call_and_no_image(root: Path) -> None:
    """Each call ends with one line, and the next goes on from what it kept."""
    ends = output_of(LOCAL, root, TESTS, *POINTS).splitlines()
    assert len(ends) == len(POINTS)
    kept = [int(end.partition(" ")[0]) for end in ends]
    assert kept == sorted(kept)
    assert 0 < kept[-1] < IMAGES - 1
    assert all("a process was killed, perhaps because memory ran out" in end for end in ends)
    assert bytes_of(root / "local") == bytes_of(root / "whole")


CLUSTER = """
import logging, os, signal, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
root = Path(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from child_processes import children_called
from discs import finished_images
from pipeline.io.work_log import LOG
from pipeline.stages.label import label

cluster = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 0, "include_dashboard": False, "_system_config": {"worker_niceness": 0}})
machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
lines = []

def after(name, images):
    log = root / f".{name}.unfinished" / LOG
    while finished_images(log) < images:
        time.sleep(0.01)

def lose_machine(name):
    after(name, 20)
    cluster.remove_node(machines.pop(), allow_graceful=False)
    lines.append("a machine is lost")

def kill_workers(name):
    for images in map(int, sys.argv[3:]):
        after(name, images)
        while not (actors := children_called(b"ray::BatchWorker", os.getpid())):
            time.sleep(0.01)
        os.kill(actors[0], signal.SIGKILL)
        lines.append("a worker is killed")
        while actors[0] in children_called(b"ray::BatchWorker", os.getpid()):
            time.sleep(0.01)

for name, fault in (("workers", kill_workers), ("machine", lose_machine)):
    thread = threading.Thread(target=fault, args=(name,))
    thread.start()
    label(root / "model", root / "images", root / name, device="cpu", keep_going=True,
          runner="ray", workers=2)
    lines.append("done")
    thread.join()
ray.shutdown()
(root / "lines").write_text("\\n".join(lines))  # stdout has Ray's own
"""


def test_workers_and_a_machine_of_three_that_are_lost_on_ray_cost_no_image(root: Path) -> None:
    output_of(CLUSTER, root, TESTS, *POINTS)
    kills = ["a worker is killed"] * len(POINTS)
    assert (root / "lines").read_text().splitlines() == [
        *kills, "done", "a machine is lost", "done",
    ]  # fmt: skip
    whole = bytes_of(root / "whole")
    assert bytes_of(root / "workers") == whole
    assert bytes_of(root / "machine") == whole
