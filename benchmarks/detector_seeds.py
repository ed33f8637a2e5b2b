"""How much of the detector's figures is luck: the same training with several seeds.

python benchmarks/detector_seeds.py CONFIG DATA [CONFIG DATA...] [--seeds 5]

CONFIG: of `pipeline run`, whose `finetune` is used; DATA: a folder of convert-masks. Prints a
Markdown table: box AP50 and AP on the held-out images, mean, standard deviation and range.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline.config.load import build, read_yaml
from pipeline.config.schema import RunConfig
from pipeline.runtime.progress import set_quiet
from pipeline.stages.finetune_yolo import FinetuneYoloResult, finetune_yolo


def trained(config: Path, data: Path, seed: int) -> FinetuneYoloResult:
    """The detector of one seed."""
    finetune = build(RunConfig, read_yaml(config)).finetune.model_copy(update={"seed": seed})
    with tempfile.TemporaryDirectory() as scratch:
        return finetune_yolo(data, Path(scratch) / "detector", finetune)


def spread(figures: Iterable[float | None]) -> str:
    """Mean, standard deviation and range."""
    values = [figure for figure in figures if figure is not None]
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.3f} ± {deviation:.3f} ({min(values):.3f}-{max(values):.3f})"


def main() -> None:
    """Print a table, a row when its set is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", type=Path, nargs="+", metavar="CONFIG DATA")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    if len(options.sets) % 2:
        parser.error("give a configuration and a folder for each set")
    set_quiet(True)
    print("| configuration | held-out images / defects | seeds | box AP50 | box AP |")
    print("|---|---|---|---|---|", flush=True)
    for config, data in zip(options.sets[::2], options.sets[1::2], strict=True):
        runs = [trained(config, data, seed) for seed in range(options.seeds)]
        held_out = runs[0].held_out
        row = (
            f"`{config.name}`", f"{held_out.images} / {held_out.instances}", str(len(runs)),
            spread(run.tuned.box_ap50 for run in runs), spread(run.tuned.box_ap for run in runs),
        )  # fmt: skip
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
