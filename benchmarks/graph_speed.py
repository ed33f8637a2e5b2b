"""Images a second of a segmenter's graph: one after the other by all threads, and two at once.

python benchmarks/graph_speed.py SEGMENTER [--side 768] [--repeats 5]

SEGMENTER: a folder of finetune-segmenter. Four images of noise are given to each way in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from pipeline.models.openvino_graphs import Graph
from pipeline.models.segmentation.inference import CompiledNetwork
from pipeline.models.segmentation.model import load_defect_segmenter

IMAGES = 4


def main() -> None:
    """Print the seconds of an image each way, and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("segmenter", type=Path)
    parser.add_argument("--side", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    model = load_defect_segmenter(options.segmenter, torch.device("cpu"), backend="openvino")
    together = CompiledNetwork(model.members[0].network)._graph
    alone = Graph(together._store, together._trace, together._precision)
    random = np.random.default_rng(0)
    size = (1, 3, options.side, options.side)
    images = [random.uniform(0, 255, size).astype(np.float32) for _ in range(IMAGES)]
    pairs = zip(alone.outputs(images), together.outputs(images), strict=True)
    same = all((first == second).all() for first, second in pairs)
    ratios = []
    for _ in range(options.repeats):
        taken = []
        for graph in (alone, together):
            start = time.perf_counter()
            graph.outputs(images)
            taken.append((time.perf_counter() - start) / IMAGES)
        ratios.append(taken[0] / taken[1])
        print(f"one {taken[0]:.3f} s, two at once {taken[1]:.3f} s: {ratios[-1]:.2f} times")
    print(f"median: {statistics.median(ratios):.2f} times; the same bytes: {same}")


if __name__ == "__main__":
    main()
