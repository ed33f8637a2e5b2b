"""Tables that datasets have beside their images: CSV with a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import DataError
from pipeline.io.read import read_text

_MOST_CHARACTERS = 1 << 24  # of one cell: runs of a large mask


def rows_of(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file as text by column. Raises DataError for a file that lacks one of the
    columns, and for a row of another length."""
    before = csv.field_size_limit(_MOST_CHARACTERS)  # of the whole process
    reader = csv.reader(io.StringIO(read_text(path)), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        for name in columns:
            if name not in header:
                raise DataError(path, f"has no column {name}", "check that it is the right file")
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                reason = f"line {reader.line_num} has {len(row)} cells, not {len(header)}"
                raise DataError(path, reason, "correct it")
            yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise DataError(path, f"line {reader.line_num}: {error}", "correct it") from error
    finally:
        csv.field_size_limit(before)
