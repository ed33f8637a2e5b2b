"""How many masks SAM needs: mask IoU on held-out photos after learning from 5, 10, 20 and all
masks, by several seeds, beside what needs no learning. Stopped, it goes on where it was.

python benchmarks/sam_few_masks.py RUNS PICTURE DATA...   with folders that convert-masks wrote
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from pipeline.config import FinetuneSamConfig
from pipeline.pictures.plots import curves
from pipeline.progress import say
from pipeline.stages.finetune_sam import finetune_sam

SIZES: tuple[int | None, ...] = (5, 10, 20, None)
SEEDS = int(os.environ.get("SEEDS", "5"))
BESIDE = {
    "zero_shot": "as published",
    "mean_shape": "mean shape",
    "box_fill": "box-fill",
    "grabcut": "GrabCut",
}


def tuned(data: Path, folder: Path, masks: int | None, seed: int) -> dict[str, Any]:
    """The summary of one tuning, run or found."""
    done = folder / "run.json"
    if not done.is_file():
        first = masks is None and seed == 0
        config = FinetuneSamConfig(masks=masks, seed=seed, folds=0, robustness=False, compare=first)
        say(f"{folder}")
        finetune_sam(data, folder, config, "auto")
    summary: dict[str, Any] = json.loads(done.read_text())["summary"]
    return summary


def main() -> None:
    """Print a Markdown table, and draw a panel for each set."""
    runs, picture = Path(sys.argv[1]), Path(sys.argv[2])
    sets = [Path(name) for name in sys.argv[3:]]
    panels: dict[str, dict[str, list[float]]] = {}
    head = ["set", "test masks / photos", *BESIDE.values()]
    head += [f"{size or 'all'} masks" for size in SIZES]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for data in sets:
        found = {
            size: [tuned(data, runs / f"{data.name}_{size}_{s}", size, s) for s in range(SEEDS)]
            for size in SIZES
        }
        full = found[None][0]
        cells = [data.name, f"{full['held_out']['masks']} / {full['held_out']['photos']}"]
        cells += [f"{full[name]['mask_iou'][0]:.3f}" for name in BESIDE]
        means = []
        for summaries in found.values():
            values = [summary["tuned"]["mask_iou"][0] for summary in summaries]
            means.append(statistics.mean(values))
            cells.append(f"{means[-1]:.3f} ({min(values):.3f}-{max(values):.3f})")
        cells[-1] += f", {full['learned_from']['masks']}"
        print("| " + " | ".join(cells) + " |", flush=True)
        panels[data.name] = {
            "as published": [full["zero_shot"]["mask_iou"][0]] * len(SIZES),
            "tuned": means,
            "mean shape": [full["mean_shape"]["mask_iou"][0]] * len(SIZES),
            "box-fill": [full["box_fill"]["mask_iou"][0]] * len(SIZES),
        }
    names = [str(size or "all") for size in SIZES]
    curves(picture, names, panels, "masks learned from", "mask IoU")


if __name__ == "__main__":
    main()
