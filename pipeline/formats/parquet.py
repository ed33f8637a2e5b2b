"""COCO as Parquet, for sets that a JSON file cannot hold, and for DuckDB, pandas and the like.

The tables hold what COCO's lists hold, see `parquet_rows`: both ways lead over the same entries, so
that what comes back gives the bytes of the COCO file.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.coco import images_beside, read_coco, write_coco
from pipeline.formats.coco_schema import LISTS, PARQUET
from pipeline.formats.json_rows import JsonRows
from pipeline.formats.parquet_rows import json_rows, write_tables
from pipeline.formats.source import SourceLog
from pipeline.types import Dataset

IMAGES = f"images{PARQUET}"


def write_parquet(root: Path, dataset: Dataset) -> None:
    """Write `images.parquet` and `annotations.parquet` into a folder, in the order of the COCO
    file. Raises DataError when a file cannot be written, and ConfigError without pyarrow."""
    listing = root / "instances.json"
    write_coco(listing, dataset)
    raw = JsonRows(listing, LISTS)
    write_tables(root, json_rows(raw, "images"), json_rows(raw, "annotations"),
                 list(raw.rows("categories")))  # fmt: skip
    listing.unlink()


def read_parquet(source: Path, images: Path | None, log: SourceLog) -> Dataset:
    """Read the tables of a folder, or those that one of the two files names. images: as in
    `read_coco`, by default the folder `images` beside the files. Raises DataError, and ConfigError
    without pyarrow."""
    path = source / IMAGES if source.is_dir() else source
    if path.suffix.lower() != PARQUET:
        raise DataError(path, "is not Parquet", "give the folder of the files, or one of them")
    return read_coco(path, images or images_beside(path), log)
