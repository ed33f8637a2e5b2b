"""Speed of the detector beside ultralytics' own: images a second while it learns, and while it
finds.

python benchmarks/detector_speed.py DATA [--side 288] [--freeze 6] [--batches 12] [--repeats 2]

DATA: a folder of convert-masks. Both ways have the same weights, settings, images and frozen
layers; each training has a process of its own, and the ways take turns. "ultralytics" learns as its
trainer does on a CPU: in single precision, with one thread less than there are cores. The median
batch counts, and the first three do not. Detections are compared in one process, image by image.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config.schema import FinetuneConfig
from pipeline.errors import Faults
from pipeline.formats.converted_set import read_objects
from pipeline.io.images import read_image
from pipeline.models.text.embeddings import TextEmbeddings, embed
from pipeline.models.weights.store import WeightsStore
from pipeline.models.yolo_world import trainer
from pipeline.models.yolo_world.detector import YoloWorldDetector, saved_text_embeddings
from pipeline.runtime.progress import set_quiet
from pipeline.stages.finetune_yolo import finetune_yolo

WARM_UP = 3  # batches that are not counted
OURS, PEER = "finetune-yolo", "ultralytics"


class EnoughError(Exception):
    """Enough batches were timed."""


def train(way: str, data: Path, side: int, freeze: int, batches: int) -> None:
    """Print the seconds of the median batch of a training, and its images."""
    times: list[float] = []

    class Timed(trainer._Bar):
        def on_train_start(self, own: Any) -> None:
            if way == OURS:
                super().on_train_start(own)

        def on_train_batch_end(self, own: Any) -> None:
            del own
            times.append(time.perf_counter())
            if len(times) > WARM_UP + batches:
                raise EnoughError

    trainer._Bar = Timed  # type: ignore[misc]
    if way == PEER:
        stock: Any = vars(trainer)["stock"].WorldTrainer.preprocess_batch
        trainer.DefectTrainer.preprocess_batch = stock  # type: ignore[method-assign]
    config = FinetuneConfig(
        epochs=100, image_side=side, batch=6, freeze=freeze, amp=way == OURS, workers=2
    )
    with tempfile.TemporaryDirectory() as scratch:
        try:
            finetune_yolo(data, Path(scratch) / "run", config, device="cpu")
        except EnoughError:
            steps = np.diff(times[WARM_UP:])
            print(f"{statistics.median(steps):.4f} {config.batch}")


def trained(way: str, args: argparse.Namespace) -> float:
    """Images a second of one training in its own process."""
    command = [sys.executable, __file__, args.data, "--way", way]
    for name in ("side", "freeze", "batches"):
        command += [f"--{name}", str(getattr(args, name))]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode or not result.stdout.strip():
        sys.exit(f"{way}: {result.stderr[-800:]}")
    seconds, images = result.stdout.split()[-2:]
    return float(images) / float(seconds)


def detections(data: Path, side: int) -> dict[str, float]:
    """Images a second of each way to detect. Each image goes through both before the next."""
    dataset = read_objects(data, ("train", "val", "test"), Faults(), good=True)[0]
    base = WeightsStore().get("yolov8s-world")
    texts: TextEmbeddings = embed(
        dataset.categories, saved_text_embeddings(base.path), "auto", WeightsStore()
    )
    ways = {
        OURS: YoloWorldDetector(base.path, texts, side, 0.01, device="cpu", backend="openvino"),
        PEER: YoloWorldDetector(base.path, texts, side, 0.01, device="cpu", backend="torch"),
    }
    images = [read_image(record.path) for record in dataset.records[:24]]
    seconds = dict.fromkeys(ways, 0.0)
    for number, image in enumerate([images[0], *images]):
        for name, detector in ways.items():
            start = time.perf_counter()
            detector.detect(image)
            seconds[name] += (time.perf_counter() - start) * bool(number)
    return {name: len(images) / took for name, took in seconds.items()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--side", type=int, default=288)
    parser.add_argument("--freeze", type=int, default=6)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--way", choices=(OURS, PEER), help=argparse.SUPPRESS)
    args = parser.parse_args()
    set_quiet(True)
    if args.way:
        train(args.way, Path(args.data), args.side, args.freeze, args.batches)
        return
    rates: dict[str, list[float]] = {OURS: [], PEER: []}
    for _ in range(args.repeats):
        for way, measured in rates.items():
            measured.append(trained(way, args))
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, images of {args.side} pixels\n")
    print("| | way | images a second | times |\n|---|---|---|---|")
    found = detections(Path(args.data), args.side)
    for what, table in (
        ("learns", {way: statistics.median(each) for way, each in rates.items()}),
        ("finds", found),
    ):
        for way, rate in table.items():
            print(f"| {what} | {way} | {rate:.1f} | {rate / table[PEER]:.1f} |")


if __name__ == "__main__":
    main()
