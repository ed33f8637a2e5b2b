"""`review.html`: close-ups of the masks with the lowest confidence, lowest first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.formats.coco_log import LeastConfident, least_confident
from pipeline.formats.coco_masks import segmentation_rle
from pipeline.io.work_log import WorkLog
from pipeline.reports.close_ups import CloseUp, write_close_ups
from pipeline.types import Dataset

_LIMITS = (0.5, 0.7, 0.85)  # confidences below which the page counts masks


def review_logged(
    folder: Path, prompts: Dataset, log: WorkLog[Any], figures: Sequence[str], count: int
) -> None:
    """Write review.html for the `count` masks in a log of COCO rows with the least of the first
    figure that they have. Nothing without a mask. Raises DataError for an image that cannot be
    read."""
    least = least_confident(log, figures, count)
    if not least.masks:
        return
    records = {record.id: record for record in prompts.records}
    shown = []
    for mask in least.masks:
        record = records[mask.image_id]
        x, y, width, height = mask.bbox
        shown.append(
            CloseUp(
                record,
                np.array([x, y, x + width, y + height], np.float32),
                "no mask" if mask.failed else f"{mask.confidence:.2f}",
                prompts.categories[mask.category_id - 1],
                (record.file_name, "at " + ", ".join(f"{side:.0f}" for side in mask.bbox)),
                tinted=segmentation_rle(mask.segmentation, record.size),
            )
        )
    write_close_ups(folder / "review.html", "Masks to check", _text(least), shown)


def _text(least: LeastConfident) -> str:
    """What the page shows."""
    values, name = least.values, least.figure.replace("_iou", " IoU")
    below = " ".join(f"Below {limit}: {int((values < limit).sum())}." for limit in _LIMITS)
    return (
        f"{len(least.masks)} of {len(values)} masks, those with the lowest "
        f"{name} first. {below} The mask is tinted. The frame is the box "
        "that the mask was made from, or its own box."
    )
