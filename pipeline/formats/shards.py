"""A COCO file, or the tables of Parquet, in several files, and back to one: as a stream, so that a
set of any length takes little memory.

The images keep their order: each shard has as many of them as the others, give or take one. Ids
stay those of the one file, so that they are unique over all shards.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco_rows import JsonRow
from pipeline.formats.coco_schema import coco_rows, open_coco
from pipeline.formats.coco_stream import RowSpool, coco_writer
from pipeline.formats.json_rows import Rows
from pipeline.formats.shard_index import Shard, index_of, write_index
from pipeline.io.read import sha256_of

_ENCODER = json.JSONEncoder(ensure_ascii=False)


@dataclass(frozen=True)
class Part:
    """What one shard holds. mark: of the names of its files. count: of its images. images: their
    entries. ids: (N,) of its annotations, ascending. rows: the annotations as JSON texts without
    `id`."""

    mark: str
    count: int
    images: Iterator[JsonRow]
    ids: NDArray[np.int64]
    rows: Iterator[str]

    def shard(self, *files: Path) -> Shard:
        """The entry of the index for the written files."""
        sums = {path.name: sha256_of(path) for path in files}
        return Shard(images=self.count, annotations=len(self.ids), files=sums)


def shard_coco(path: Path, count: int) -> Path:
    """Replace a COCO file that `write_coco` wrote by `count` shards and their index, for
    `a.json` `a-00000-of-00004.json` and `a.index.json`. Returns the index. Raises DataError, and
    ConfigError for a count below 1."""
    raw = open_coco(path)
    categories = category_names(raw)
    shards: list[Shard] = []
    for part in parts(path, raw, count):
        target = path.with_name(f"{path.stem}{part.mark}.json")
        with coco_writer(target, categories) as writer:
            for image in part.images:
                writer.add_image(_ENCODER.encode(image))
            writer.add_rows(part.rows, map(int, part.ids))
        shards.append(part.shard(target))
    write_index(index_of(path), categories, shards)
    path.unlink()
    return index_of(path)


def shard_folder(root: Path, count: int) -> None:
    """Divide the COCO file of an export. Raises DataError."""
    shard_coco(root / "annotations" / "instances.json", count)


def merge_shards(source: Path, path: Path) -> None:
    """Write the shards of an index, or tables, as one COCO file: with the bytes that it had before
    it was divided. Raises DataError for a missing or changed shard."""
    raw = open_coco(source)
    with RowSpool(path.parent) as spool, coco_writer(path, category_names(raw)) as writer:
        for image in raw.rows("images"):
            writer.add_image(_ENCODER.encode(image))
        ids, _ = _spooled(source, raw, spool)
        order = np.argsort(ids, kind="stable")
        writer.add_rows(map(spool.text, order), map(int, ids[order]))


def parts(path: Path, raw: Rows, count: int) -> Iterator[Part]:
    """The parts of `count` shards, in order; each is to be read before the next. path: of the
    lists. Raises DataError for ids that are no whole numbers, and for an image that is not
    listed; ConfigError for a count below 1."""
    if count < 1:
        raise ConfigError(f"shards: {count} is below 1; give the number of files")
    places = _Places(path, (_whole(path, row, "id") for row in raw.rows("images")))
    bounds = [shard * len(places) // count for shard in range(count + 1)]
    images = (row for row in raw.rows("images") if isinstance(row, dict))
    with RowSpool(path.parent) as spool:
        ids, image_ids = _spooled(path, raw, spool)
        shard_of = np.searchsorted(bounds, places.of(image_ids), side="right") - 1
        order = np.lexsort((ids, shard_of))
        ends = np.searchsorted(shard_of[order], range(count + 1))
        for shard in range(count):
            own = order[ends[shard] : ends[shard + 1]]
            length = bounds[shard + 1] - bounds[shard]
            yield Part(
                f"-{shard:05d}-of-{count:05d}", length, islice(images, length),
                ids[own], map(spool.text, own),
            )  # fmt: skip


class _Places:
    """The place of each image in the list, by its id."""

    def __init__(self, path: Path, numbers: Iterable[int]) -> None:
        own = np.asarray(array("q", numbers), np.int64)
        self._path, self._order = path, np.argsort(own, kind="stable")
        self._ascending = own[self._order]

    def __len__(self) -> int:
        return len(self._order)

    def of(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) places from 0, of the ids (N,). Raises DataError for one without an image."""
        found = np.searchsorted(self._ascending, numbers)
        there = np.append(self._ascending, 0)[found] == numbers
        if not (there & (found < len(self))).all():
            reason = f"has an annotation of image {numbers[~there][0]}, which it does not list"
            raise DataError(self._path, reason, "correct it: pipeline validate --fix")
        return self._order[found]


def category_names(raw: Rows) -> list[str]:
    """The names of the categories of a file that this program wrote."""
    return [str(row["name"]) for row in raw.rows("categories") if isinstance(row, dict)]


def _spooled(path: Path, raw: Rows, spool: RowSpool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Put all annotations into a spool, as JSON texts without `id`. Returns their ids, and those of
    their images, (N,) each."""
    ids, images = array("q"), array("q")
    for row in coco_rows(raw, "annotations"):
        ids.append(_whole(path, row, "id"))
        images.append(_whole(path, row, "image_id"))
        if isinstance(row, dict):
            spool.add([_ENCODER.encode({k: v for k, v in row.items() if k != "id"})])
    return np.asarray(ids, np.int64), np.asarray(images, np.int64)


def _whole(path: Path, row: JsonValue, key: str) -> int:
    """A whole number of an entry. Raises DataError."""
    number = row.get(key) if isinstance(row, dict) else None
    if type(number) is not int or number.bit_length() > 63:
        raise DataError(path, f"has an entry without a whole number as {key}",
                        "correct it: pipeline validate --fix")  # fmt: skip
    return number
