"""PatchCore as the set of good images grows: CPU seconds and image AUROC by coreset ratio. Features
are computed once; then each setting is fitted on them, and scores the same test images.

python benchmarks/anomaly_size.py PRODUCT [--ratios auto 0.02 0.1] [--sizes 40 100 320] [--side 320]

PRODUCT: a folder in MVTec's layout. If it has no good image in test, a fifth of train/good is held
out. CPU seconds are of all threads: beside other work, wall seconds say nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipeline.errors import Faults
from pipeline.formats.products import read_product
from pipeline.io.images import Image, read_image
from pipeline.metrics.anomaly import ranking
from pipeline.models.anomaly.detector import image_features
from pipeline.models.anomaly.patchcore import PatchCore
from pipeline.models.features.held import HeldFeatures
from pipeline.runtime.progress import set_quiet
from pipeline.types import GOOD


def images_of(product: Path, most_of_category: int) -> tuple[list[Image], list[Image], list[bool]]:
    """Good images to learn from, test images, and which of these are defective."""
    records = read_product(product, Faults()).records
    good = [r for r in records if r.source_split == "train" and r.defect == GOOD]
    test = [r for r in records if r.source_split == "test"]
    if not any(r.defect == GOOD for r in test):
        test += good[::5]
        good = [r for number, r in enumerate(good) if number % 5]
    chosen = []
    for category in sorted({r.defect for r in test}):
        own = [r for r in test if r.defect == category]
        chosen += own if category == GOOD else own[:most_of_category]
    return (
        [read_image(r.path) for r in good],
        [read_image(r.path) for r in chosen],
        [r.defect != GOOD for r in chosen],
    )


class Clock:
    """CPU seconds of this process, and wall seconds, since the last call."""

    def __init__(self) -> None:
        self._last = (time.process_time(), time.perf_counter())

    def __call__(self) -> tuple[float, float]:
        now = (time.process_time(), time.perf_counter())
        last, self._last = self._last, now
        return now[0] - last[0], now[1] - last[1]


def row(
    features: HeldFeatures,
    good: Sequence[Image],
    test: Sequence[Image],
    bad: Sequence[bool],
    ratio: float | None,
) -> str:
    """Fit and test one setting: a row of the table."""
    clock = Clock()
    model = PatchCore(features, ratio)
    model.fit(good)
    fit = clock()
    scores = [model.score(image).score for image in test]
    score = clock()
    figures = ranking(scores, list(bad))
    low, high = figures.auroc_interval
    kept = 0 if model.bank is None else len(model.bank)
    return (
        f"| {len(good)} | {model.patches_seen:,} | {ratio or 'auto'} | {kept:,} | {fit[0]:.1f} "
        f"| {fit[1]:.1f} | {1e3 * score[0] / len(test):.0f} | {figures.auroc:.3f} "
        f"({low:.3f} to {high:.3f}) |"
    )


def main() -> None:
    """Print a Markdown table."""
    set_quiet(True)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("product", type=Path)
    parser.add_argument("--ratios", nargs="+", default=["auto", "0.02", "0.1"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[40, 100, 320])
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--defects", type=int, default=1000, help="most of a category")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    good, test, bad = images_of(options.product, options.defects)
    sizes = sorted({min(size, len(good)) for size in options.sizes})
    features = HeldFeatures(image_features("mobilenet_v2", options.side, torch.device("cpu")))
    good = good[: sizes[-1]]
    clock = Clock()
    for image in (*good, *test):
        features.patches(image)
    cpu, wall = clock()
    print(f"{options.threads} threads, {len(test)} test images, {int(np.sum(bad))} defective;")
    print(f"features: {1e3 * cpu / len(good + test):.0f} CPU ms an image ({wall:.0f} s in all)\n")
    print("| good images | patches | ratio | kept | fit, CPU s | wall s | score, CPU ms | AUROC |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for size in sizes:
        for ratio in options.ratios:
            share = None if ratio == "auto" else float(ratio)
            print(row(features, good[:size], test, bad, share), flush=True)


if __name__ == "__main__":
    main()
