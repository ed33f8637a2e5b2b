"""COCO instances written as a stream: a file of any length takes little memory."""

from __future__ import annotations

import json
import shutil
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Self

import numpy as np
from pydantic import JsonValue

from pipeline.formats.text_stream import text_file

_INFO = {"description": "written by pipeline", "version": "1.0"}


class CocoWriter:
    """Writes images and annotations one by one, and keeps none in memory.

    Both are given as JSON texts, which other processes may have made. The writer numbers the
    annotations from 1.
    """

    def __init__(self, images: IO[str], annotations: IO[str]) -> None:
        self._images, self._annotations = images, annotations
        self._count = 0
        self._image_count = 0

    def add_image(self, image: str) -> None:
        """Write an image, given as a JSON object."""
        self._images.write((",\n" if self._image_count else "\n") + image)
        self._image_count += 1

    def add_rows(self, rows: Iterable[str], ids: Iterable[int] | None = None) -> None:
        """Write annotations, given as JSON objects without `id`. ids: those of a part of a set, one
        for each row, in place of numbers from 1."""
        for row, number in zip(rows, count(self._count + 1) if ids is None else ids, strict=False):
            start = ",\n" if self._count else "\n"
            self._count += 1
            self._annotations.write(f'{start}{{"id": {number}, {row[1:]}')


class RowSpool:
    """Texts in a file without a name in `folder`, to be read in another order. Memory holds 8 bytes
    for each."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by `__exit__`
        self._ends = array("q", [0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, texts: Iterable[str]) -> None:
        """Add texts. What is not Unicode is kept: the file that it is written to refuses it."""
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            self._file.write(data)
            self._ends.append(self._ends[-1] + len(data))

    def text(self, number: int | np.int64) -> str:
        """The text that was added as this one, counted from 0."""
        start, end = self._ends[number], self._ends[number + 1]
        self._file.seek(start)
        return self._file.read(end - start).decode("utf-8", "surrogatepass")


@contextmanager
def coco_writer(path: Path, categories: Sequence[str]) -> Iterator[CocoWriter]:
    """A writer of COCO instances JSON. The file appears, complete, when the block succeeds.

    Raises DataError when the file cannot be written.
    """
    with (
        text_file(path) as file,
        tempfile.TemporaryFile("w+", encoding="utf-8", newline="", dir=path.parent) as spool,
    ):
        head = {"info": _INFO, "licenses": [], "categories": category_entries(categories)}
        file.write(f'{json.dumps(head, sort_keys=True)[:-1]},\n"images": [')
        yield CocoWriter(file, spool)
        file.write('],\n"annotations": [')
        spool.seek(0)
        shutil.copyfileobj(spool, file, 1 << 20)
        file.write("]}\n")


def write_rows(path: Path, rows: Iterable[str]) -> None:
    """Write JSON objects as one list, one line each, completely or not at all. Raises DataError."""
    with text_file(path) as file:
        start = "[\n"
        for row in rows:
            file.write(start + row)
            start = ",\n"
        file.write("[]\n" if start == "[\n" else "\n]\n")


def category_entries(categories: Sequence[str]) -> list[dict[str, JsonValue]]:
    """COCO's categories, numbered from 1."""
    return [
        {"id": label + 1, "name": name, "supercategory": "defect"}
        for label, name in enumerate(categories)
    ]
