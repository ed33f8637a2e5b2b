"""Image embeddings in the cache on disk: half precision, compressed."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from pipeline.disk_cache import DiskCache

_HEAD = struct.Struct("<III")  # channels, height, width
_LEVEL = 1  # a higher one saves 1 % more and takes three times as long

Embedding = NDArray[np.float16]


def get_embedding(cache: DiskCache, key: str) -> Embedding | None:
    """The embedding that was kept under a key, or None."""
    data = cache.get(key)
    return None if data is None else unpack(data)


def put_embedding(cache: DiskCache, key: str, embedding: Embedding) -> None:
    """Keep an embedding (C, H, W)."""
    cache.put(key, pack(embedding))


def pack(embedding: Embedding) -> bytes:
    """(C, H, W) float16 as bytes. High bytes (sign, exponent) are alike and are deflated; low bytes
    are noise and are kept as they are."""
    from zlib_ng import zlib_ng

    if embedding.ndim != 3:
        raise ValueError(f"an embedding is (C, H, W), not {embedding.shape}")
    planes = np.ascontiguousarray(embedding, "<f2").view(np.uint8).reshape(-1, 2)
    high = zlib_ng.compress(planes[:, 1].tobytes(), _LEVEL)
    return _HEAD.pack(*embedding.shape) + planes[:, 0].tobytes() + high


def unpack(data: bytes) -> Embedding:
    """Undo `pack`."""
    from zlib_ng import zlib_ng

    channels, height, width = _HEAD.unpack_from(data)
    body = memoryview(data)[_HEAD.size :]
    count = channels * height * width
    planes = np.empty((count, 2), np.uint8)
    planes[:, 0] = np.frombuffer(body[:count], np.uint8)
    planes[:, 1] = np.frombuffer(zlib_ng.decompress(body[count:]), np.uint8)
    return planes.view("<f2").reshape(channels, height, width).astype(np.float16, copy=False)
