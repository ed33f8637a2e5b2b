"""A segmenter's masks in the cache on disk: the same boxes on the same image need no model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.geometry.boxes import Boxes
from pipeline.geometry.masks import Rle, check_runs
from pipeline.interfaces import PromptedSegmenter
from pipeline.io.disk_cache import DiskCache, key_of
from pipeline.types import Image, Masks
from pipeline.version import __version__

_REQUIRED = "predicted_iou"  # a column that all masks have


class _Entry(BaseModel):
    """Each mask's height, width and runs, which of them failed, and their figures."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    masks: list[tuple[int, int, str]]
    failed: list[bool]
    quality: dict[str, list[Annotated[float, Field(ge=0, le=1)]]]


class CachedSegmenter:
    """A segmenter with a cache of its masks. A `PromptedSegmenter`."""

    def __init__(
        self, segmenter: PromptedSegmenter, cache: DiskCache, key: str | Callable[[], str]
    ) -> None:
        """`key` names all that masks depend on but image, boxes and heat map. It is a function if
        it may change while the segmenter works."""
        self._segmenter = segmenter
        self._cache = cache
        self._key = key

    def segment(
        self, image: Image, boxes: Boxes, heatmap: NDArray[np.float32] | None = None
    ) -> Masks:
        """See `SamSegmenter.segment`."""
        if self._cache.limit <= 0:
            return self._segmenter.segment(image, boxes, heatmap)
        pixels = np.ascontiguousarray(image)
        heat = b"" if heatmap is None else np.ascontiguousarray(heatmap).tobytes()
        prompt_key = key_of(str(image.shape), pixels.data, boxes.tobytes(), heat)
        entry = self._cache.get(key_of(self._segmenter_key(), prompt_key))
        cached = None if entry is None else _from_bytes(entry, len(boxes), image.shape[:2])
        if cached is not None:
            return cached
        masks = self._segmenter.segment(image, boxes, heatmap)
        self._cache.put(key_of(self._segmenter_key(), prompt_key), _to_bytes(masks))
        return masks

    def _segmenter_key(self) -> str:
        return f"{__version__} {self._key if isinstance(self._key, str) else self._key()}"


def _to_bytes(masks: Masks) -> bytes:
    """JSON; a float32 survives as the shortest float64 that is it."""
    content = {
        "masks": [[*rle["size"], rle["counts"].decode("ascii")] for rle in masks.masks],
        "failed": masks.failed.tolist(),
        "quality": {name: column.tolist() for name, column in masks.quality.items()},
    }
    return json.dumps(content).encode()


def _from_bytes(data: bytes, count: int, size: tuple[int, ...]) -> Masks | None:
    """The masks of an entry; None if it is not of `count` boxes on an image of this size."""
    try:
        entry = _Entry.model_validate_json(data)
        rles = []
        for height, width, runs in entry.masks:
            if (height, width) != size:
                return None
            counts = runs.encode("ascii")
            check_runs(counts, height, width)
            rles.append(Rle(size=[height, width], counts=counts))
    except (ValidationError, ValueError):
        return None
    rows = {len(rles), len(entry.failed), *(len(column) for column in entry.quality.values())}
    if _REQUIRED not in entry.quality or rows != {count}:
        return None
    quality = {name: np.array(column, np.float32) for name, column in entry.quality.items()}
    return Masks(tuple(rles), np.array(entry.failed, dtype=bool), quality)
