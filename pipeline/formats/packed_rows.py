"""Annotations that wait for the others of their image, in a third of the memory of dicts.

A dict of Python holds each number as an object. Here an annotation is one text of bytes, and is a
dict again when its image is made. `marshal` trusts what it reads, so the texts never leave the
memory of the process.
"""

from __future__ import annotations

import marshal
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np

from pipeline.formats.coco_schema import CocoRow
from pipeline.geometry.masks import Rle

_MASK = "segmentation"


class PackedRows:
    """Annotations of many images, in any order. Their masks stay as they are."""

    def __init__(self) -> None:
        self._images = array("q")
        self._texts: list[bytes] = []
        self._masks: list[Rle | None] = []

    def add(self, image: int, row: CocoRow) -> None:
        """Add an annotation whose segmentation is an RLE or nothing. image: id of its record."""
        self._images.append(image)
        values = cast(dict[str, Any], row)
        self._masks.append(values.pop(_MASK, None))
        self._texts.append(marshal.dumps(values))

    def by_image(self, images: Iterable[int]) -> Iterator[tuple[int, list[CocoRow]]]:
        """The place of each image that has annotations in `images`, with these in the order in
        which they were added. Each is given away once."""
        own = np.asarray(self._images, np.int64)
        order = np.argsort(own, kind="stable")
        wanted = np.fromiter(images, np.int64)
        starts = np.searchsorted(own, wanted, side="left", sorter=order)
        ends = np.searchsorted(own, wanted, side="right", sorter=order)
        for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
            if start < end:
                yield place, [self._unpacked(row) for row in order[start:end]]

    def _unpacked(self, number: np.int64) -> CocoRow:
        values = marshal.loads(self._texts[number])
        if (mask := self._masks[number]) is not None:
            values[_MASK] = mask
        self._texts[number], self._masks[number] = b"", None
        return cast(CocoRow, values)
