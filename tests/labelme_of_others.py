"""LabelMe's files as others write them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import Faults
from pipeline.formats.labelme_reader import read_labelme
from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.io.images import write_png
from pipeline.types import Dataset, Detections

RING = [[2, 2], [12, 2], [12, 8], [2, 8]]  # PIL draws both ends: 11 x 7 pixels


def shape(label: str | None = "crack", points: Any = RING, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, **more}


def read(
    root: Path, *shapes: dict[str, Any], keep_going: bool = False, **more: Any
) -> tuple[Dataset, SourceCounts]:
    if not (root / "a.png").exists() and "imageData" not in more:
        write_png(root / "a.png", np.zeros((20, 30, 3), np.uint8))
    content = {"shapes": list(shapes), "imagePath": "a.png", **more}
    (root / "a.json").write_text(json.dumps(content))
    log = SourceLog(Faults(keep_going))
    dataset = read_labelme(root, None, log)
    return dataset, log.counts(dataset)


def only(dataset: Dataset) -> Detections:
    (record,) = dataset.records
    assert record.size == (20, 30)
    return dataset.on(record)


def photo(path: Path, value: int = 0) -> str:
    """Write a photo of one value; returns its bytes as LabelMe's imageData."""
    write_png(path, np.full((20, 30, 3), value, np.uint8))
    return base64.b64encode(path.read_bytes()).decode()


def place(path: Path, image: str, data: str | None = None, *shapes: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"shapes": list(shapes) or [shape()], "imagePath": image, "imageData": data}
    path.write_text(json.dumps(content))
