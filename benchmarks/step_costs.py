"""What the parts of a run cost, in training steps of the segmenter: the numbers by which `pipeline
run --minutes` plans (`Costs` in pipeline/stages/run_plan.py).

python benchmarks/step_costs.py RUN

RUN: a finished folder of `pipeline run configs/default.yaml`. Each training is done with few steps
and with more: the difference is what a step costs, and what is left is what the part costs in any
case. The parts that no step counts are taken from the run itself, which should have been made on
this machine while nothing else ran.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from pipeline.config.load import build, read_yaml
from pipeline.config.schema import RunConfig
from pipeline.io.run_record import read_run_file
from pipeline.models.segmentation.step_time import step_seconds
from pipeline.runtime.progress import set_quiet
from pipeline.stages.finetune_sam import finetune_sam
from pipeline.stages.finetune_segmenter import finetune_segmenter
from pipeline.stages.finetune_yolo import finetune_yolo
from pipeline.stages.run_plan import count

CONFIG = Path(__file__).parents[1] / "configs" / "default.yaml"
LABELS = ("labeller", "labels")
REST = (
    "masks_from_truth", "evaluation_truth_boxes", "masks_from_detector",
    "evaluation_detector_boxes", "classifier", "anomaly_patchcore", "comparison",
)  # fmt: skip


def seconds(work: Callable[[Path], object]) -> float:
    """Of a stage that writes into a new folder."""
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        work(Path(scratch) / "out")
        return time.perf_counter() - start


def main() -> None:
    """Print the costs as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run: Path = parser.parse_args().run
    set_quiet(True)
    config = build(RunConfig, read_yaml(CONFIG))
    data, counts = run / "data", count(run / "data", keep_going=False)
    photos = counts.photos + counts.held_out
    unit = step_seconds(torch.device("cpu"))

    def detector(epochs: int) -> float:
        own = config.finetune.model_copy(update={"epochs": epochs})
        return seconds(lambda out: finetune_yolo(data, out, own, device="cpu")) / unit

    def sam(steps: int, masks: int) -> float:
        own = config.finetune_sam.model_copy(
            update={"sam": config.segment.sam, "steps": steps, "masks": masks, "cache_gb": 0.0}
        )
        return seconds(lambda out: finetune_sam(data, out, own, device="cpu")) / unit

    def segmenter(decoder_steps: int, steps: int) -> float:
        assert config.finetune_segmenter
        own = config.finetune_segmenter.model_copy(
            update={"decoder_steps": decoder_steps, "steps": steps}
        )
        return seconds(lambda out: finetune_segmenter(data, out, own, device="cpu")) / unit

    def taken(names: tuple[str, ...]) -> float:
        return sum(read_run_file(run / name).seconds for name in names) / unit

    one, three = detector(1), detector(3)
    epoch = (three - one) / 2
    few, half, more = sam(4, counts.masks), sam(4, counts.masks // 2), sam(44, counts.masks)
    folds = config.finetune_sam.folds
    step = (more - few) / 40 / folds
    mask = (few - half) / (counts.masks - counts.masks // 2)
    least, wider, longer = segmenter(1, 1), segmenter(41, 1), segmenter(1, 41)
    networks = config.finetune_segmenter.folds if config.finetune_segmenter else 1
    rows = {
        "detector": one - epoch,
        "detector_photo": epoch / counts.photos,
        "sam": few - mask * counts.masks - 4 * folds * step,
        "sam_step": step,
        "sam_mask": mask,
        "decoder_step": (wider - least) / 40 / networks,
        "step": (longer - least) / 40 / networks,
        "segmenter_photo": least / photos,
        "label_photo": taken(LABELS) / photos,
        "rest": taken(REST),
    }
    print(f"A step takes {unit:.3f} s; {counts}\n\n| part | steps |\n|---|---|")
    for name, cost in rows.items():
        print(f"| {name} | {cost:.2f} |")


if __name__ == "__main__":
    main()
