"""What a conversion kept: fidelity.csv for each instance, fidelity.json in total, and the ten
instances that lost most as pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.text_stream import text_file
from pipeline.geometry.masks import encode
from pipeline.io.images import read_image, write_png
from pipeline.io.write import write_json
from pipeline.metrics.fidelity import COLUMNS, Comparison, FidelityTotals, Worst, table_rows
from pipeline.types import ImageRecord
from pipeline.visualization.overlays import close_up

_PICTURES = "fidelity"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")  # the apostrophe, so that it comes back


class FidelityReport:
    """Takes the comparisons of one image after another; what it holds grows little with them."""

    def __init__(self, table: IO[str]) -> None:
        self._table = csv.writer(table, lineterminator="\n")
        self._table.writerow(["format", "image", "object", *COLUMNS])
        self._totals = FidelityTotals()

    def add(self, record: ImageRecord, found: Mapping[str, Comparison]) -> None:
        """Note what each format kept of the objects of an image."""
        for name, comparison in found.items():
            rows = table_rows(name, record, comparison)
            self._table.writerows([to_cell(row[0]), to_cell(row[1]), *row[2:]] for row in rows)
            self._totals.add(name, record, comparison)

    def below(self, least: float) -> int:
        """How many instances keep an IoU under `least`, over all formats."""
        return self._totals.below(least)

    def finish(self, folder: Path) -> dict[str, Any]:
        """Write totals and pictures; returns what a summary prints."""
        summary = {name: dict(row) for name, row in self._totals.summary().items()}
        worst = [_describe(entry) for entry in self._totals.worst]
        write_json(folder / "fidelity.json", {"formats": summary, "worst": worst})
        for rank, entry in enumerate(self._totals.worst, start=1):
            _draw(folder / _PICTURES, rank, entry)
        return {name: _line(row) for name, row in summary.items()}


def to_cell(text: str) -> str:
    """Foreign text as a cell that no spreadsheet takes for a formula; `from_cell` undoes it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def from_cell(cell: str) -> str:
    """The text that `to_cell` was given."""
    return cell.removeprefix("'")


@contextmanager
def fidelity_report(folder: Path) -> Iterator[FidelityReport]:
    """A report whose table lies in `folder`. Raises DataError when the system refuses."""
    with text_file(folder / "fidelity.csv") as table:
        yield FidelityReport(table)


def _describe(entry: Worst) -> dict[str, Any]:
    return {
        "format": entry.format,
        "image": entry.record.file_name,
        "object": entry.row + 1,
        "iou": round(entry.kept.iou, 6),
        "area": entry.kept.area,
        "area_read": entry.kept.area_read,
    }


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("instances", "iou_mean", "iou_min", "changed", "lost")
    return {key: row[key] for key in keys if key in row}


def _draw(folder: Path, rank: int, entry: Worst) -> None:
    """The true outline in green over what is read back in red; nothing where the image is gone."""
    if entry.masks is None or not entry.record.path.is_file():
        return
    true, read = entry.masks
    try:
        image = read_image(entry.record.path)
    except DataError:
        return
    drawn = read if read is not None else encode(np.zeros(entry.record.size, dtype=bool))
    x0, y0, x1, y1 = _box(true)
    picture = close_up(image, drawn, true, np.array([x0, y0, x1, y1], dtype=np.float32))
    write_png(folder / f"{rank:02d}_{entry.format}_{entry.kept.iou:.3f}.png", picture)


def _box(rle: Any) -> tuple[int, int, int, int]:
    from pipeline.geometry.masks import to_patch

    return to_patch(rle).box
