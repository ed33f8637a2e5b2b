"""Defect maps on disk: training, labeller, labels and comparison ask for that of a photo again."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.io.disk_cache import disk_cache, key_of
from pipeline.models.segmentation.defect_map import FULL, DefectMap
from pipeline.models.segmentation.network import SegmentationNetwork
from pipeline.types import Image
from pipeline.version import __version__

_MOST_PIXELS = 1 << 22  # of an image whose map is kept: larger ones would displace too many others
_FAST = 1  # zlib's level; most of a map is 0


class MapCache:
    """The maps of trained networks, whose weights do not change any more."""

    def __init__(
        self, networks: Sequence[SegmentationNetwork], about: str, cache_gb: float
    ) -> None:
        """about: all that maps depend on but the networks and the image. cache_gb: largest size of
        the cache on disk; 0 keeps nothing."""
        self._cache = disk_cache(cache_gb)
        self._networks, self._about = list(networks), f"{__version__} {about}"
        self._keys: dict[int, str] = {}

    def get(
        self, image: Image, own: Sequence[int], categories: int, predict: Callable[[], DefectMap]
    ) -> DefectMap:
        """The map of an image (H, W, 3) by some of the networks, `own`; from `predict` where it is
        not kept."""
        height, width = image.shape[:2]
        if self._cache.limit <= 0 or height * width > _MOST_PIXELS:
            return predict()
        keys = (self._key(number) for number in own)
        pixels = np.ascontiguousarray(image)
        key = key_of(self._about, *keys, str(image.shape), pixels.data)
        entry = self._cache.get(key)
        kept = None if entry is None else _from_bytes(entry, (height, width), categories)
        if kept is not None:
            return kept
        found = predict()
        self._cache.put(key, _to_bytes(found))
        return found

    def _key(self, number: int) -> str:
        if number not in self._keys:
            network = self._networks[number]
            state = sorted(network.state_dict().items())
            weights = (value.cpu().contiguous().numpy().data for _, value in state)
            self._keys[number] = key_of(f"map {network.options}", *weights)
        return self._keys[number]


def _to_bytes(found: DefectMap) -> bytes:
    return zlib.compress(found.defect.tobytes() + found.category.tobytes(), _FAST)


def _from_bytes(data: bytes, size: tuple[int, int], categories: int) -> DefectMap | None:
    """The map of an entry; None if it is not of an image of this size and of these categories."""
    kind = np.uint8 if categories <= FULL + 1 else np.uint16
    pixels = size[0] * size[1]
    length = pixels * (1 + np.dtype(kind).itemsize)
    unpacker = zlib.decompressobj()
    try:
        planes = unpacker.decompress(data, length + 1)
    except zlib.error:
        return None
    if len(planes) != length:
        return None
    defect, category = np.zeros(size, np.uint8), np.zeros(size, kind)
    defect.ravel()[:] = np.frombuffer(planes, np.uint8, pixels)
    category.ravel()[:] = np.frombuffer(planes, kind, pixels, offset=pixels)
    if category.max(initial=0) >= categories:
        return None
    return DefectMap(defect, category, categories)
