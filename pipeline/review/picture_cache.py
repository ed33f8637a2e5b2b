"""Decoded images, each with its pyramid: as many as fit, and each decoded once at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import DataError
from pipeline.formats.image_files import NamedFolders
from pipeline.io.images import Image, read_image, refuse_other_size
from pipeline.io.names import leaves_its_folder
from pipeline.review.tables import SavedImage

TILE = 512  # pixels of a tile's side
_LIMIT = 768 << 20  # bytes of decoded images


class PictureCache:
    """The images of a session. Each is a list of levels: level k has a side of 1 / 2^k."""

    def __init__(self, root: Path, allow_outside: bool = False, limit: int = _LIMIT) -> None:
        """root: the folder of the images; no other is read unless `allow_outside`."""
        self._root, self._limit = root, limit
        self._folders = NamedFolders([root], allow_outside)
        self._kept: OrderedDict[int, list[Image]] = OrderedDict()
        self._locks: dict[int, threading.Lock] = {}
        self._guard = threading.Lock()

    def path(self, image: SavedImage) -> Path:
        """Where an image is. Raises DataError for a name that leaves the folder of the images."""
        if leaves_its_folder(image.place):
            raise DataError(self._root, f"image {image.id} leads outside it", "check the session")
        path = self._root / image.place
        self._folders.refuse_outside(path)
        return path

    def levels(self, image: SavedImage) -> list[Image]:
        """The pyramid of an image. Raises DataError for a file that is missing, damaged or of
        another size than listed."""
        with self._guard:
            if image.id in self._kept:
                self._kept.move_to_end(image.id)
                return self._kept[image.id]
            lock = self._locks.setdefault(image.id, threading.Lock())
        with lock:
            with self._guard:
                if image.id in self._kept:
                    return self._kept[image.id]
            levels = self._read(image)
            with self._guard:
                self._kept[image.id] = levels
                self._locks.pop(image.id, None)
                self._shrink()
            return levels

    def _read(self, image: SavedImage) -> list[Image]:
        path = self.path(image)
        if not path.is_file():
            raise DataError(path, "no such image", "give their folder with --images")
        pixels = read_image(path)
        if pixels.shape[:2] != image.size:
            refuse_other_size(path, image.size)
        return pyramid(pixels)

    def _shrink(self) -> None:
        """Drop the images that were used longest ago; the newest stays."""
        sizes = {id_: sum(level.nbytes for level in levels) for id_, levels in self._kept.items()}
        total = sum(sizes.values())
        while total > self._limit and len(self._kept) > 1:
            id_, _ = self._kept.popitem(last=False)
            total -= sizes[id_]


def pyramid(pixels: Image) -> list[Image]:
    """An image (H, W, 3) and its halves, down to the first that is a tile or less."""
    levels = [pixels]
    while max(levels[-1].shape[:2]) > TILE:
        height, width = levels[-1].shape[:2]
        half = ((width + 1) // 2, (height + 1) // 2)
        levels.append(np.asarray(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA)))
    return levels
