"""COCO as Parquet, for sets that a JSON file cannot hold, and for DuckDB, pandas and the like.

The tables hold what COCO's lists hold, see `parquet_rows`: both ways lead over the same entries, so
that what comes back gives the bytes of the COCO file.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.coco import images_beside, read_coco, write_coco
from pipeline.formats.coco_schema import LISTS, PARQUET, open_coco
from pipeline.formats.json_rows import JsonRows
from pipeline.formats.parquet_rows import json_rows, write_tables
from pipeline.formats.shard_index import INDEX_SUFFIX, is_index, write_index
from pipeline.formats.shards import category_names, parts
from pipeline.formats.source import SourceLog
from pipeline.types import Dataset

IMAGES = f"images{PARQUET}"
_INDEX = f"instances{INDEX_SUFFIX}"


def write_parquet(root: Path, dataset: Dataset) -> None:
    """Write `images.parquet` and `annotations.parquet` into a folder, in the order of the COCO
    file. Raises DataError when a file cannot be written, and ConfigError without pyarrow."""
    listing = root / "instances.json"
    write_coco(listing, dataset)
    raw = JsonRows(listing, LISTS)
    write_tables(root, json_rows(raw, "images"), json_rows(raw, "annotations"),
                 list(raw.rows("categories")))  # fmt: skip
    listing.unlink()


def shard_parquet(root: Path, count: int) -> None:
    """Replace the tables of a folder by `count` shards of them, and their index,
    `instances.index.json`. Raises DataError."""
    path = root / IMAGES
    raw = open_coco(path)
    categories = list(raw.rows("categories"))
    shards = []
    for part in parts(path, raw, count):
        rows = ({"id": number, **json.loads(text)}
                for number, text in zip(map(int, part.ids), part.rows, strict=True))  # fmt: skip
        shards.append(part.shard(*write_tables(root, part.images, rows, categories, part.mark)))
    write_index(root / _INDEX, category_names(raw), shards)
    for name in (IMAGES, f"annotations{PARQUET}"):
        (root / name).unlink()


def read_parquet(source: Path, images: Path | None, log: SourceLog) -> Dataset:
    """Read the tables of a folder, of one of the two files, or of an index.

    images: as in `read_coco`, by default the folder `images` beside the files. Raises DataError,
    and ConfigError without pyarrow."""
    path = source
    if source.is_dir():
        path = source / (_INDEX if (source / _INDEX).is_file() else IMAGES)
    if path.suffix.lower() != PARQUET and not is_index(path):
        raise DataError(path, "is not Parquet", "give the folder of the files, or one of them")
    return read_coco(path, images or images_beside(path), log)
