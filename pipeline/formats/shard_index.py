"""The index of a set in several files, its shards: `*.index.json`.

It has the names, counts and sha256 of all files. Read as a source, it is the whole set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, JsonValue, TypeAdapter

from pipeline.errors import DataError
from pipeline.formats.json_rows import Rows
from pipeline.io.names import safe_component
from pipeline.io.read import checked, read_json, sha256_of, shown_value
from pipeline.io.write import write_json

INDEX_SUFFIX = ".index.json"


class Shard(BaseModel, extra="forbid"):
    """One part of a set. images, annotations: their numbers. files: the sha256 of each by name; the
    first is read, and names the others."""

    images: int
    annotations: int
    files: dict[str, str] = Field(min_length=1)


class ShardIndex(BaseModel, extra="forbid"):
    """A set in several files. categories: names, in the order of the ids from 1. images,
    annotations: the numbers in all shards, in whose order they are."""

    kind: Literal["shards"] = "shards"
    categories: list[str]
    images: int
    annotations: int
    shards: list[Shard] = Field(min_length=1)


_INDEX = TypeAdapter(ShardIndex)


def is_index(path: Path) -> bool:
    """Whether a path has the name of an index."""
    return path.name.lower().endswith(INDEX_SUFFIX)


def index_of(path: Path) -> Path:
    """The index of the shards of a file: `a.index.json` for `a.json`."""
    return path.with_name(path.stem + INDEX_SUFFIX)


def write_index(path: Path, categories: list[str], shards: list[Shard]) -> None:
    """Write the index of shards. Raises DataError."""
    index = ShardIndex(
        categories=categories,
        images=sum(shard.images for shard in shards),
        annotations=sum(shard.annotations for shard in shards),
        shards=shards,
    )
    write_json(path, index.model_dump(mode="json"))


class ShardedRows:
    """The lists of all shards of an index, one after the other. opened: opens the lists of a shard.

    Raises DataError for an index of other content, and for a shard that is missing or was changed.
    """

    is_list = False

    def __init__(self, path: Path, opened: Callable[[Path], Rows]) -> None:
        self.values: dict[str, JsonValue] = {}
        self._opened = opened
        self._index = checked(_INDEX, read_json(path), path)
        for shard in self._index.shards:
            for name, sha256 in shard.files.items():
                _check(path, name, sha256)
        self._paths = [path.with_name(next(iter(each.files))) for each in self._index.shards]
        self._shards: dict[Path, Rows] = {}

    def has(self, name: str) -> bool:
        """Whether the first shard has a list of this name."""
        return self._shard(self._paths[0]).has(name)

    def rows(self, name: str = "") -> Iterator[JsonValue]:
        """The entries of a list. Categories are those of the first shard. Raises DataError."""
        for path in self._paths[:1] if name == "categories" else self._paths:
            if not self._shard(path).has(name):
                reason = f"has no list {name}, and the first shard has one"
                raise DataError(path, reason, "export the set again")
            yield from self._shard(path).rows(name)

    def _shard(self, path: Path) -> Rows:
        """A shard, which is opened where it is needed: that reads all its text once."""
        if path not in self._shards:
            self._shards[path] = self._opened(path)
        return self._shards[path]


def _check(index: Path, name: str, sha256: str) -> None:
    """Raise DataError for a shard that is not beside the index as it was written."""
    if safe_component(name) != name or is_index(Path(name)):
        raise DataError(index, f"names {shown_value(name)}, which is no shard", "export it again")
    path = index.with_name(name)
    if not path.is_file():
        raise DataError(path, f"is missing, and {index.name} lists it", "copy it there again")
    if sha256_of(path) != sha256:
        reason = f"is not the file that {index.name} lists: its sha256 is another"
        raise DataError(path, reason, "copy it again, or export the set again")
