"""Thumbnails in a temporary file, so that memory does not grow with them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.models.near_duplicates.thumbnails import Grey, Size, Texture, View

_STEPS, _MOST = 16, 127  # of a stored texture: steps in a standard deviation, and the highest


class Pictures:
    """Small pictures of one byte a pixel, each of its own size."""

    def __init__(self, sizes: Sequence[Size], path: Path) -> None:
        """sizes: (height, width) of each. path: of the file, which is made."""
        self.sizes = sizes
        self._starts = np.r_[0, np.cumsum([h * w for h, w in sizes], dtype=np.int64)]
        length = max(int(self._starts[-1]), 1)
        _reserve(path, length)
        self._bytes = np.memmap(path, np.uint8, "r+", shape=(length,))

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        own = self._bytes[self._starts[row] : self._starts[row + 1]]
        return np.asarray(own).reshape(self.sizes[row])

    def __setitem__(self, row: int, picture: NDArray[np.uint8]) -> None:
        self._bytes[self._starts[row] : self._starts[row + 1]] = picture.ravel()


def _reserve(path: Path, length: int) -> None:
    """Make a file of `length` bytes that are really there: a process that writes into a mapped
    file on a full disk is killed. Raises DataError without the space."""
    try:
        with path.open("wb") as stream:
            stream.truncate(length)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, length)
    except OSError as error:
        reason = f"has no {max(length / 1e6, 1):.0f} MB for thumbnails ({error.strerror})"
        remedy = "set TMPDIR to a larger disk, or give --group-by none"
        raise DataError(path.parent, reason, remedy) from error


class Thumbnails:
    """The thumbnails of a set. kept: the rows of `views` that could be read."""

    def __init__(self, views: Sequence[View], folder: Path) -> None:
        """folder: where the files are made."""
        self.views, self.folder = views, folder
        self.kept: list[int] = []
        self._pictures = Pictures([view.size for view in views], folder / "grey")

    def fill(self, thumbnails: Iterable[Grey | None]) -> tuple[int, ...]:
        """Write the thumbnails of all views; returns the images that have none."""
        unreadable: dict[int, None] = {}
        for row, grey in enumerate(thumbnails):
            if grey is None:
                unreadable[self.views[row].image] = None
                continue
            self._pictures[row] = grey
            self.kept.append(row)
        return tuple(unreadable)

    def __getitem__(self, row: int) -> Grey:
        return self._pictures[row]


class Textures:
    """Textures of standard deviation 1, kept with a byte a pixel."""

    def __init__(self, sizes: Sequence[Size], path: Path) -> None:
        """As `Pictures`."""
        self.sizes = sizes
        self._pictures = Pictures(sizes, path)

    def __getitem__(self, row: int) -> Texture:
        return np.asarray((self._pictures[row].astype(np.float32) - 128) / _STEPS, np.float32)

    def __setitem__(self, row: int, texture: Texture) -> None:
        steps = np.clip((texture * _STEPS).round(), -_MOST, _MOST)
        self._pictures[row] = (steps + 128).astype(np.uint8)
