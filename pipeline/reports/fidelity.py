"""The fidelity of a conversion: fidelity.csv with a row for each object, fidelity.json with totals,
and pictures of the ten objects that changed most."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

import numpy as np
from pydantic import JsonValue, TypeAdapter

from pipeline.errors import DataError
from pipeline.formats.source import SourceCounts
from pipeline.formats.text_stream import text_file
from pipeline.geometry.masks import encode, to_patch
from pipeline.io.images import read_image, write_png
from pipeline.io.write import write_json
from pipeline.metrics.fidelity import COLUMNS, Comparison
from pipeline.metrics.fidelity_totals import (
    ChangedObject,
    FidelityTotals,
    FormatFidelity,
    table_rows,
)
from pipeline.types import ImageRecord
from pipeline.visualization.overlays import close_up

_PICTURES = "fidelity"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")  # the apostrophe, so that it comes back


class FidelityReport:
    """Collects the comparisons of one image after another in little memory."""

    def __init__(self, table: IO[str]) -> None:
        self._table = csv.writer(table, lineterminator="\n")
        self._table.writerow(["format", "image", "object", *COLUMNS])
        self._totals = FidelityTotals()

    def add(self, record: ImageRecord, comparisons: Mapping[str, Comparison]) -> None:
        """Add the comparison of one image in each format."""
        for name, comparison in comparisons.items():
            rows = table_rows(name, record, comparison)
            self._table.writerows([to_cell(row[0]), to_cell(row[1]), *row[2:]] for row in rows)
            self._totals.add(name, record, comparison)

    def below(self, least: float) -> int:
        """How many objects have an IoU under `least`, over all formats."""
        return self._totals.below(least)

    def finish(self, folder: Path, source: SourceCounts | None = None) -> dict[str, FormatFidelity]:
        """Write totals and pictures; returns the figures of each format. source: what was read,
        before it was compared."""
        totals = self._totals.by_format()
        formats = {
            name: {key: value for key, value in asdict(row).items() if value is not None}
            for name, row in totals.items()
        }
        worst = [_describe(entry) for entry in self._totals.worst]
        counts = TypeAdapter(SourceCounts).dump_python(source, mode="json") if source else None
        content = {"source": counts, "formats": formats, "worst": worst}
        write_json(folder / "fidelity.json", {k: v for k, v in content.items() if v is not None})
        for rank, entry in enumerate(self._totals.worst, start=1):
            _draw(folder / _PICTURES, rank, entry)
        return {name: row.summary() for name, row in totals.items()}


def to_cell(text: str) -> str:
    """Foreign text as a cell that no spreadsheet takes for a formula; `from_cell` is the
    inverse."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def from_cell(cell: str) -> str:
    """The text from which `to_cell` made a cell."""
    return cell.removeprefix("'")


@contextmanager
def fidelity_report(folder: Path) -> Iterator[FidelityReport]:
    """A report whose table is in `folder`. Raises DataError when it cannot be written."""
    with text_file(folder / "fidelity.csv") as table:
        yield FidelityReport(table)


def _describe(entry: ChangedObject) -> dict[str, JsonValue]:
    return {
        "format": entry.format,
        "image": entry.record.file_name,
        "object": entry.row + 1,
        "iou": round(entry.fidelity.iou, 6),
        "area": entry.fidelity.area,
        "area_read": entry.fidelity.area_read,
    }


def _draw(folder: Path, rank: int, entry: ChangedObject) -> None:
    """Write a picture: the true outline in green, the object that was read back in red. Writes
    nothing where the image cannot be read."""
    if entry.masks is None or not entry.record.path.is_file():
        return
    true, read = entry.masks
    try:
        image = read_image(entry.record.path)
    except DataError:
        return
    drawn = read if read is not None else encode(np.zeros(entry.record.size, dtype=bool))
    box = np.array(to_patch(true).box, dtype=np.float32)
    picture = close_up(image, drawn, true, box)
    write_png(folder / f"{rank:02d}_{entry.format}_{entry.fidelity.iou:.3f}.png", picture)
