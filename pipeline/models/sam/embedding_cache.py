"""Image embeddings in the cache on disk: half precision, compressed."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from pipeline.io.disk_cache import DiskCache

_HEAD = struct.Struct("<III")  # channels, height, width
_INFINITE = np.uint16(0x7C00)  # the exponent of an infinity, and of what is no number
_COMPRESSION_LEVEL = 1  # a higher one saves 1 % more and takes three times as long

Embedding = NDArray[np.float16]


def get_embedding(
    cache: DiskCache, key: str, shape: tuple[int, int, int] | None = None
) -> Embedding | None:
    """The embedding in the cache under a key. None if there is none, or if it has another shape
    (C, H, W), infinite numbers or NaN."""
    data = cache.get(key)
    if data is None:
        return None
    try:
        embedding = unpack(data)
    except (ValueError, struct.error):
        return None
    if shape is not None and embedding.shape != shape:
        return None
    infinite = (embedding.view(np.uint16) & _INFINITE) == _INFINITE
    return None if infinite.any() else embedding


def put_embedding(cache: DiskCache, key: str, embedding: Embedding) -> None:
    """Keep an embedding (C, H, W)."""
    cache.put(key, pack(embedding))


def pack(embedding: Embedding) -> bytes:
    """(C, H, W) float16 as bytes. High bytes (sign, exponent) are similar and are deflated; low
    bytes are noise and stay as they are."""
    from zlib_ng import zlib_ng

    if embedding.ndim != 3:
        raise ValueError(f"an embedding is (C, H, W), not {embedding.shape}")
    planes = np.ascontiguousarray(embedding, "<f2").view(np.uint8).reshape(-1, 2)
    high = zlib_ng.compress(planes[:, 1].tobytes(), _COMPRESSION_LEVEL)
    return _HEAD.pack(*embedding.shape) + planes[:, 0].tobytes() + high


def unpack(data: bytes) -> Embedding:
    """Undo `pack`. Raises ValueError, struct.error for other bytes."""
    from zlib_ng import zlib_ng

    channels, height, width = _HEAD.unpack_from(data)
    body = memoryview(data)[_HEAD.size :]
    count = channels * height * width
    if not 0 < count < len(body):
        raise ValueError(f"{len(body)} bytes are no embedding of {count} numbers")
    inflate = zlib_ng.decompressobj()
    try:
        high = inflate.decompress(body[count:], count)  # and no more, whatever it unpacks to
    except zlib_ng.error as error:  # type: ignore[misc]  # its stub calls it an object
        raise ValueError(str(error)) from error
    if len(high) != count or not inflate.eof or inflate.unused_data:
        raise ValueError(f"its high bytes are not {count}")
    planes = np.empty((count, 2), np.uint8)
    planes[:, 0] = np.frombuffer(body[:count], np.uint8)
    planes[:, 1] = np.frombuffer(high, np.uint8)
    return planes.view("<f2").reshape(channels, height, width).astype(np.float16, copy=False)
