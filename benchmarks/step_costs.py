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
from functools import partial
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


class Costs:
    """What each part of a run costs, in steps of `step_seconds`."""

    def __init__(self, run: Path) -> None:
        self.run, self.data = run, run / "data"
        self.config = build(RunConfig, read_yaml(CONFIG))
        self.counts = count(self.data, keep_going=False)
        self.unit = step_seconds(torch.device("cpu"))

    def detector(self, epochs: int) -> float:
        """Of a training of some epochs."""
        own = self.config.finetune.model_copy(update={"epochs": epochs})
        return seconds(lambda out: finetune_yolo(self.data, out, own, device="cpu")) / self.unit

    def sam(self, steps: int, masks: int) -> float:
        """Of a tuning of some steps on some masks, with nothing in the cache."""
        own = self.config.finetune_sam.model_copy(
            update={
                "sam": self.config.segment.sam, "steps": steps, "masks": masks, "cache_gb": 0.0
            }
        )  # fmt: skip
        return seconds(lambda out: finetune_sam(self.data, out, own, device="cpu")) / self.unit

    def segmenter(self, decoder_steps: int, steps: int) -> float:
        """Of a training of some steps without the encoder, and some with it."""
        assert self.config.finetune_segmenter
        own = self.config.finetune_segmenter.model_copy(
            update={"decoder_steps": decoder_steps, "steps": steps}
        )
        work = partial(finetune_segmenter, self.data, config=own, device="cpu")
        return seconds(work) / self.unit

    def taken(self, names: tuple[str, ...]) -> float:
        """Of steps of the run itself."""
        return sum(read_run_file(self.run / name).seconds for name in names) / self.unit

    def of_trainings(self) -> dict[str, float]:
        """By the names of `Costs` in pipeline/stages/run_plan.py."""
        masks, folds = self.counts.masks, self.config.finetune_sam.folds
        one, three = self.detector(1), self.detector(3)
        epoch = (three - one) / 2
        few, half, more = self.sam(4, masks), self.sam(4, masks // 2), self.sam(44, masks)
        step, mask = (more - few) / 40 / folds, (few - half) / (masks - masks // 2)
        least, wider, longer = self.segmenter(1, 1), self.segmenter(41, 1), self.segmenter(1, 41)
        networks = self.config.finetune_segmenter.folds if self.config.finetune_segmenter else 1
        return {
            "detector": one - epoch,
            "detector_photo": epoch / self.counts.photos,
            "sam": few - mask * masks - 4 * folds * step,
            "sam_step": step,
            "sam_mask": mask,
            "decoder_step": (wider - least) / 40 / networks,
            "step": (longer - least) / 40 / networks,
            "segmenter_photo": least / (self.counts.photos + self.counts.held_out),
        }


def main() -> None:
    """Print the costs as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    set_quiet(True)
    costs = Costs(parser.parse_args().run)
    rows = {
        **costs.of_trainings(),
        "label_photo": costs.taken(LABELS) / (costs.counts.photos + costs.counts.held_out),
        "rest": costs.taken(REST),
    }
    print(f"A step takes {costs.unit:.3f} s; {costs.counts}\n\n| part | steps |\n|---|---|")
    for name, cost in rows.items():
        print(f"| {name} | {cost:.2f} |")


if __name__ == "__main__":
    main()
