"""One training step of YOLO-World-S at 320 px, batch 8: one CPU thread against all, interleaved.

ultralytics leaves a core idle on the CPU; the trainer here gives it back.
"""

from __future__ import annotations

import os
import statistics
import time

import torch

from pipeline.models.weights.store import WeightsStore
from pipeline.models.yolo_world.detector import load_yolo_world

ROUNDS = 5


def main() -> None:
    """Print both medians and their ratio."""
    model = load_yolo_world(WeightsStore().fetch("yolov8s-world").path).model.float().train()
    from ultralytics.utils import DEFAULT_CFG

    model.args = DEFAULT_CFG
    model.requires_grad_(True)
    batch = {
        "img": torch.rand(8, 3, 320, 320),
        "cls": torch.zeros(8, 1),
        "bboxes": torch.rand(8, 4) * 0.3 + 0.3,
        "batch_idx": torch.arange(8.0),
        "txt_feats": model.txt_feats[:, :80].expand(8, -1, -1),
    }
    times: dict[int, list[float]] = {1: [], os.cpu_count() or 1: []}
    for turn in range(ROUNDS + 1):
        for threads, found in times.items():
            torch.set_num_threads(threads)
            start = time.perf_counter()
            loss, _ = model.loss(batch)
            loss.sum().backward()
            if turn:  # the first round warms up
                found.append(time.perf_counter() - start)
    medians = {threads: statistics.median(found) for threads, found in times.items()}
    for threads, seconds in medians.items():
        print(f"{threads} threads: {seconds:.2f} s a step")
    print(f"ratio: {max(medians.values()) / min(medians.values()):.2f}")


if __name__ == "__main__":
    main()
