"""Label Studio's JSON, built in a line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.formats.label_studio import read_label_studio
from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.io.images import write_png
from pipeline.types import Dataset

HEIGHT, WIDTH = 60, 80  # pixels; 1.25 % of the width is a pixel, and 1 2/3 % of the height
BOX = {"x": 12.5, "y": 20.0, "width": 25.0, "height": 30.0, "rotation": 0}  # 10, 12 to 30, 30
PIXELS = [10.0, 12.0, 30.0, 30.0]


def result(kind: str, value: dict[str, Any], key: str | None = "r1", **more: Any) -> dict[str, Any]:
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    row = {"type": kind, "value": value, "from_name": "label", "to_name": "image", **size, **more}
    return row if key is None else row | {"id": key}


def box(
    label: str = "crack", key: str | None = "r1", x: float = 12.5, **more: Any
) -> dict[str, Any]:
    return result("rectanglelabels", BOX | {"x": x, "rectanglelabels": [label]}, key, **more)


def annotation(*rows: Any, key: int = 10, by: Any = 1, **more: Any) -> dict[str, Any]:
    return {"id": key, "completed_by": by, "result": list(rows), **more}


def task(*annotations: Any, image: Any = "a.png", key: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": key, "data": {"image": image}, "annotations": list(annotations), **more}


def read(
    folder: Path, *tasks: Any, images: tuple[str, ...] = ("a.png",), log: SourceLog | None = None
) -> tuple[Dataset, SourceCounts]:
    """Read tasks from project.json, beside a folder of photos."""
    for name in images:
        write_png(folder / "images" / name, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (folder / "project.json").write_text(json.dumps(tasks), encoding="utf-8")
    log = log or SourceLog()
    dataset = read_label_studio(folder / "project.json", None, log)
    return dataset, log.counts(dataset)


def left_out(counts: SourceCounts) -> dict[str, int]:
    found: Counter[str] = Counter()
    for row in counts.left_out:
        found[row.kind] += row.count
    return dict(found)
