"""`pipeline label`: COCO pre-labels for images without any label.

It calls two other stages: the anomaly model finds boxes, and `segment` makes masks from them. With
a truth, `evaluate` compares the labels with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.config.schema import EvaluateConfig, SegmentConfig
from pipeline.errors import Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.source import SourceLog
from pipeline.metrics.localization import Localization, localization
from pipeline.results import StageResult
from pipeline.stages.evaluate import EvaluateResult, evaluate
from pipeline.stages.segment import SegmentResult, segment

_DEFAULT = SegmentConfig(tighten=True)


@dataclass(frozen=True, kw_only=True)
class LabelResult(StageResult):
    """segment: the result of that stage. localization: whether labels and defects overlap.
    evaluation: the result of `evaluate`. Both are None without a truth."""

    segment: SegmentResult
    localization: Localization | None = None
    evaluation: EvaluateResult | None = None


def label(
    model: Path,
    images: Path,
    output: Path,
    config: SegmentConfig = _DEFAULT,
    *,
    device: str = "auto",
    truth: Path | None = None,
    trust: Path | None = None,
    keep_going: bool = False,
) -> LabelResult:
    """Label a folder of images, or the images that `truth` lists, with a model of `pipeline
    anomaly`.

    The box of an object is the box of its mask, with `config.tighten`. Writes what
    `segment` writes into `output`. trust: folder of calibrate for this pair. truth: a COCO file
    with masks; with it, what `evaluate` writes goes into `output`/evaluation. Raises what `segment`
    and `evaluate` raise.
    """
    masks = segment(
        images,
        output,
        config,
        device=device,
        boxes=truth,
        detector=model,
        trust=trust,
        keep_going=keep_going,
    )
    if truth is None:
        return LabelResult(segment=masks)
    predictions = output / "instances.json"
    evaluation = evaluate(
        truth,
        predictions,
        output / "evaluation",
        EvaluateConfig(split=config.split),
        images=images,
        keep_going=keep_going,
    )
    overlaps = localization(
        read_coco(truth, images, SourceLog(Faults(keep_going)), exact=True),
        read_coco(predictions, images, exact=True),
        config.split,
    )
    return LabelResult(segment=masks, localization=overlaps, evaluation=evaluation)
