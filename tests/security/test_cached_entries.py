"""Entries of a cache that are damaged or forged count as absent: the answers stay right."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes
from pipeline.io.disk_cache import DiskCache, key_of
from pipeline.models.sam.embedding_cache import get_embedding, pack
from pipeline.models.sam.mask_cache import CachedSegmenter
from pipeline.types import Image, Masks

BIG = 1 << 30


def test_an_entry_under_another_ones_name_counts_as_absent(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, BIG)
    cache.put(key_of("x"), b"x")
    there = next(tmp_path.rglob("*.kept"))
    other = tmp_path / key_of("y")[:2] / f"{key_of('y')}.kept"
    other.parent.mkdir(exist_ok=True)
    there.rename(other)
    assert cache.get(key_of("y")) is None


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "more than the cache may hold"])
def test_no_entry_hangs_or_fills_the_memory(tmp_path: Path, kind: str) -> None:
    cache = DiskCache(tmp_path, 1 << 20)
    path = tmp_path / key_of("x")[:2] / f"{key_of('x')}.kept"
    path.parent.mkdir()
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        with path.open("wb") as stream:
            stream.truncate(1 << 40)
    assert cache.get(key_of("x")) is None


class Filling:
    """Fills boxes, and counts how often it is asked."""

    asked = 0

    def segment(self, image: Image, boxes: Any, heatmap: object = None) -> Masks:
        self.asked += 1
        rles = tuple(mask_geometry.from_box(box, *image.shape[:2]) for box in boxes)
        column = np.full(len(boxes), 0.5, np.float32)
        return Masks(rles, np.zeros(len(boxes), bool), {"predicted_iou": column})


def _answer(**changes: object) -> bytes:
    whole = {"masks": [[20, 30, "hd0"]], "failed": [False], "quality": {"predicted_iou": [0.5]}}
    return json.dumps(whole | changes).encode()


@pytest.mark.parametrize(
    "forged",
    [
        b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000, b"1" * 5000,
        _answer(masks=[]), _answer(masks=None), _answer(masks=[[20, 30]]),
        _answer(masks=[[20, 30, 7]]), _answer(masks=[[30, 20, "hd0"]]),
        _answer(masks=[[20, 30, ""]]), _answer(masks=[[20, 30, "zzzz"]]),
        _answer(masks=[[20, 30, "\u1234"]]), _answer(masks=[[20, 30, "\x00"]]),
        _answer(masks=[[10**30, 30, "hd0"]]), _answer(masks=[["20", 30, "hd0"]]),
        _answer(failed=[]), _answer(failed=[1]), _answer(failed=[False, False]),
        _answer(quality={}), _answer(quality={"predicted_iou": []}),
        _answer(quality={"predicted_iou": [float("nan")]}),
        _answer(quality={"predicted_iou": [1e300]}), _answer(quality={"predicted_iou": ["x"]}),
        _answer(quality={"predicted_iou": [0.5], "fill": [0.1, 0.2]}), _answer(more=1),
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_one_is_asked_for_again(tmp_path: Path, forged: bytes) -> None:
    """The entry's own sha256 is right: whoever forged it has written it as we do."""
    image, boxes = np.zeros((20, 30, 3), np.uint8), as_boxes([[1, 2, 9, 8]])
    cache, inner = DiskCache(tmp_path, BIG), Filling()
    cached = CachedSegmenter(inner, cache, "a")
    right = cached.segment(image, boxes)
    key = next(tmp_path.rglob("*.kept")).stem
    cache.put(key, forged)
    assert cached.segment(image, boxes).masks == right.masks
    assert inner.asked == 2
    cached.segment(image, boxes)
    assert inner.asked == 2  # the right one has taken its place


def test_an_answer_is_kept_under_the_key_of_what_made_it(tmp_path: Path) -> None:
    """The key changes while the question is answered, as when a damaged graph is found."""
    image, boxes = np.zeros((20, 30, 3), np.uint8), as_boxes([[1, 2, 9, 8]])
    keys, inner, cache = iter(["damaged", "mended", "mended"]), Filling(), DiskCache(tmp_path, BIG)
    cached = CachedSegmenter(inner, cache, lambda: next(keys))
    for _ in range(2):
        cached.segment(image, boxes)
    assert inner.asked == 1


SHAPE = (2, 3, 4)
RIGHT = np.arange(24, dtype=np.float16).reshape(SHAPE)


def _with_head(*numbers: int) -> bytes:
    return struct.pack("<III", *numbers) + pack(RIGHT)[12:]


@pytest.mark.parametrize(
    "forged",
    [
        b"", b"12345", pack(RIGHT)[:-1], pack(RIGHT) + b"x", pack(RIGHT)[:12],
        _with_head(0, 3, 4), _with_head(2, 3, 5), _with_head(4, 3, 2),
        _with_head(2**32 - 1, 2**32 - 1, 2**32 - 1), _with_head(2, 3, 3),
        pack(np.full(SHAPE, np.nan, np.float16)), pack(np.full(SHAPE, np.inf, np.float16)),
        pack(np.zeros((1, 3, 4), np.float16)),
    ],
)  # fmt: skip
def test_an_embedding_that_cannot_be_one_counts_as_absent(tmp_path: Path, forged: bytes) -> None:
    cache = DiskCache(tmp_path, BIG)
    cache.put("key", pack(RIGHT))
    found = get_embedding(cache, "key", SHAPE)
    assert found is not None
    assert (found == RIGHT).all()
    cache.put("key", forged)
    assert get_embedding(cache, "key", SHAPE) is None


def test_an_embedding_that_unpacks_without_end_takes_no_memory(tmp_path: Path) -> None:
    import tracemalloc

    from zlib_ng import zlib_ng

    bomb = zlib_ng.compress(bytes(64 << 20), 9)
    cache = DiskCache(tmp_path, BIG)
    cache.put("key", struct.pack("<III", *SHAPE) + bytes(24) + bomb)
    tracemalloc.start()
    assert get_embedding(cache, "key", SHAPE) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
