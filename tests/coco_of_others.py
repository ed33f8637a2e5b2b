"""The least COCO file of another tool, and how it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.io.images import write_png
from pipeline.types import Dataset, Detections

RING = [2, 2, 12, 2, 12, 8, 2, 8]  # 10 x 6 pixels


Raw = dict[str, Any]


def plain() -> Raw:
    """One image with one object, as COCO has it."""
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 6],
                         "area": 60, "iscrowd": 0, "segmentation": [RING]}],
        "categories": [{"id": 1, "name": "crack"}],
    }  # fmt: skip


def read(tmp_path: Path, raw: Raw, keep_going: bool = False) -> tuple[Dataset, SourceCounts]:
    photos = tmp_path / "photos"
    write_png(photos / "a.png", np.zeros((20, 30, 3), np.uint8))
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(raw))
    log = SourceLog(Faults(keep_going))
    dataset = read_coco(path, photos, log)
    return dataset, log.counts(dataset)


def only(dataset: Dataset) -> Detections:
    assert len(dataset.records) == 1
    return dataset.on(dataset.records[0])


def annotation(number: int, **more: Any) -> Raw:
    return {"id": number, "image_id": 1, "category_id": 1, **more}
