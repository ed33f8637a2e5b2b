"""A segmenter's answers in the cache on disk: the same boxes on the same image cost no model."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

import pipeline
from pipeline.disk_cache import DiskCache, key_of
from pipeline.geometry.boxes import Boxes
from pipeline.geometry.masks import Rle
from pipeline.types import Image, Masks, PromptedSegmenter


class CachedSegmenter:
    """Another segmenter, asked only what the cache does not know. A `PromptedSegmenter`.

    `key` names all that an answer depends on but image, boxes and heat map.
    """

    def __init__(self, segmenter: PromptedSegmenter, cache: DiskCache, key: str) -> None:
        self._segmenter = segmenter
        self._cache = cache
        self._key = f"{pipeline.__version__} {key}"

    def segment(
        self, image: Image, boxes: Boxes, heatmap: NDArray[np.float32] | None = None
    ) -> Masks:
        """See `SamSegmenter.segment`."""
        pixels = np.ascontiguousarray(image)
        heat = b"" if heatmap is None else np.ascontiguousarray(heatmap).tobytes()
        key = key_of(self._key, str(image.shape), pixels.data, boxes.tobytes(), heat)
        kept = self._cache.get(key)
        if kept is not None:
            return _from_bytes(kept)
        made = self._segmenter.segment(image, boxes, heatmap)
        self._cache.put(key, _to_bytes(made))
        return made


def _to_bytes(masks: Masks) -> bytes:
    """JSON; a float32 survives as the shortest float64 that is it."""
    content = {
        "masks": [[*rle["size"], rle["counts"].decode("ascii")] for rle in masks.masks],
        "failed": masks.failed.tolist(),
        "quality": {name: column.tolist() for name, column in masks.quality.items()},
    }
    return json.dumps(content).encode()


def _from_bytes(data: bytes) -> Masks:
    content = json.loads(data)
    rles = tuple(
        Rle(size=[height, width], counts=counts.encode("ascii"))
        for height, width, counts in content["masks"]
    )
    quality = {name: np.array(v, np.float32) for name, v in content["quality"].items()}
    return Masks(rles, np.array(content["failed"], dtype=bool), quality)
