"""`pipeline label`: COCO pre-labels where nobody has drawn anything.

Like `run`, a stage of stages: what stands out becomes boxes, SAM makes them masks, and where the
truth is known they are held against it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config import EvaluateConfig, SegmentConfig
from pipeline.stages.evaluate import evaluate
from pipeline.stages.segment import segment


def label(
    model: Path,
    images: Path,
    output: Path,
    config: SegmentConfig,
    device: str,
    truth: Path | None = None,
    keep_going: bool = False,
) -> dict[str, Any]:
    """Label a folder of images, or those that `truth` lists, by a model of `pipeline anomaly`.

    Writes what `segment` writes into `output`, and with `truth`, a COCO file with masks, what
    `evaluate` does into `output`/evaluation. Raises as these.
    """
    summary = segment(output, images, config, device, truth, model, keep_going)
    if truth is None:
        return summary
    predictions = output / "instances.json"
    judged = evaluate(
        truth, predictions, EvaluateConfig(part=config.part), images, output / "evaluation"
    )
    return {**summary, "against_the_truth": judged}
