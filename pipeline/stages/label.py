"""`pipeline label`: COCO pre-labels where nobody has drawn anything.

Like `run`, a stage of stages: what stands out becomes boxes, SAM makes them masks, and where the
truth is known they are held against it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.schema import EvaluateConfig, SegmentConfig
from pipeline.formats.coco import read_coco
from pipeline.geometry import masks as mask_geometry
from pipeline.stages.evaluate import evaluate
from pipeline.stages.segment import segment
from pipeline.types import Dataset


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

    Boxes become their masks' own unless `config` says not. Writes what `segment` writes into
    `output`, and with `truth`, a COCO file with masks, what `evaluate` does into
    `output`/evaluation. Raises as these.
    """
    summary: dict[str, Any] = segment(
        images, output, config, device=device, boxes=truth, detector=model, keep_going=keep_going
    ).to_json()
    if truth is None:
        return summary
    predictions = output / "instances.json"
    judged = evaluate(
        truth, predictions, EvaluateConfig(split=config.split), images, output / "evaluation"
    )
    kept = ("average_precision", "objects", "matched", "mask_iou", "mask_iou_interval")
    overall = _overall(read_coco(truth, images), read_coco(predictions, images), config.split)
    return {
        **summary,
        "where": overall,
        "against_the_truth": {key: judged[key] for key in kept if key in judged},
    }


def _overall(truth: Dataset, found: Dataset, split: str | None) -> dict[str, Any]:
    """Whether labels are where defects are, however many pieces each was drawn in: a defect is
    found when a label touches it, a label right when it touches a defect."""
    by_name = {record.file_name: found.on(record) for record in found.records}
    touched = objects = right = labels = marked_bad = bad = marked_good = good = both = either = 0
    for record in truth.records:
        if (split and record.split != split) or record.file_name not in by_name:
            continue
        true = truth.on(record).masks or ()
        said = by_name[record.file_name].masks or ()
        shared = mask_geometry.iou(said, true) > 0 if true and said else np.zeros((0, 0), bool)
        objects, labels = objects + len(true), labels + len(said)
        touched += int(shared.any(axis=0).sum()) if shared.size else 0
        right += int(shared.any(axis=1).sum()) if shared.size else 0
        bad, good = bad + bool(true), good + (not true)
        marked_bad += bool(true and said)
        marked_good += bool(said and not true)
        one, other = (mask_geometry.union(masks, *record.size) for masks in (true, said))
        both, either = both + int((one & other).sum()), either + int((one | other).sum())
    return {
        "defects_found": f"{touched} of {objects}",
        "labels_on_a_defect": f"{right} of {labels}",
        "defective_images_labelled": f"{marked_bad} of {bad}",
        "good_images_labelled": f"{marked_good} of {good}",
        "pixel_iou": round(both / either, 4) if either else None,
    }
