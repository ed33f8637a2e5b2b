"""The least VOC set of another tool, and how it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.formats.voc_reader import read_voc
from pipeline.io.images import write_png
from pipeline.types import Dataset

BOX = "<xmin>3</xmin><ymin>3</ymin><xmax>12</xmax><ymax>8</ymax>"  # pixels 2 to 11, 2 to 7


SIZE = "<size><width>30</width><height>20</height></size>"


def xml(name: str = "a.png", size: str = SIZE, box: str = f"<bndbox>{BOX}</bndbox>") -> str:
    return (
        f"<annotation><filename>{name}</filename>{size}"
        f"<object><name>crack</name>{box}</object></annotation>"
    )


def written(root: Path, files: dict[str, str], photos: tuple[str, ...]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in photos:
        write_png(root / name, np.zeros((20, 30, 3), np.uint8))
    return root


def read(root: Path) -> tuple[Dataset, SourceCounts]:
    log = SourceLog()
    dataset = read_voc(root, None, log)
    return dataset, log.counts(dataset)
