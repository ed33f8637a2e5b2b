"""The least YOLO set of another tool, and how it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.formats.yolo_reader import read_yolo
from pipeline.io.images import write_png
from pipeline.types import Dataset

ROW = "1 0.5 0.5 0.2 0.4\n"  # of 30 x 20 pixels: 12 to 18, 6 to 14


def written(root: Path, **files: str) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            write_png(root / name, np.zeros((20, 30, 3), np.uint8))
        else:
            (root / name).write_text(text)
    return root


def read(root: Path) -> tuple[Dataset, SourceCounts]:
    log = SourceLog()
    dataset = read_yolo(root, None, False, log)
    return dataset, log.counts(dataset)
