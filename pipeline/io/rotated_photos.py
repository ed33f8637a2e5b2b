"""How many photos EXIF rotates: whoever reads them upright says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO
from weakref import WeakSet

from pipeline.io.write import open_roots

_counting: WeakSet[RotatedPhotos]


class RotatedPhotos:
    """Counts the photos that are read as long as this object exists, and that EXIF rotates. Each
    file counts once, and the files of an output that is being written do not count."""

    def __init__(self) -> None:
        self._files: set[tuple[int, int]] = set()
        _counting.add(self)

    def __len__(self) -> int:
        return len(self._files)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def add(self, device: int, number: int) -> None:
        """Count a file by its device and its number there."""
        self._files.add((device, number))


_counting = WeakSet()


def note_rotated(path: Path, stream: IO[bytes]) -> None:
    """Count a photo that EXIF rotates. stream: its open file."""
    place = os.path.realpath(path)
    if any(place.startswith(os.path.join(root, "")) for root in open_roots()):  # noqa: PTH118
        return
    state = os.fstat(stream.fileno())
    for count in list(_counting):
        count.add(state.st_dev, state.st_ino)
