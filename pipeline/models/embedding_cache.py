"""Image embeddings on disk: compact, bounded, and safe where several processes share them."""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.progress import say
from pipeline.storage import write_bytes

_ENVIRONMENT = "PIPELINE_CACHE"
_HEAD = struct.Struct("<4sIIII")  # magic, channels, height, width, CRC-32 of what follows
_MAGIC = b"EMB1"
_LEVEL = 1  # a higher one saves 1 % more and takes three times as long
_SHARE = 0.9  # of the limit, that is left after old entries went

Embedding = NDArray[np.float16]


def cache_folder() -> Path:
    """Where embeddings lie: $PIPELINE_CACHE, else the user's cache."""
    if chosen := os.environ.get(_ENVIRONMENT):
        return Path(chosen)
    return Path.home() / ".cache" / "defect-pipeline" / "embeddings"


class EmbeddingCache:
    """Embeddings (C, H, W) float16 by key, of at most `limit` bytes; the longest unused go first.

    Entries appear whole or not at all, and a damaged one counts as absent, so that processes may
    share a folder and be killed at any time. Where the disk refuses, work goes on without.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._size: int | None = None
        self._broken = False

    def get(self, key: str) -> Embedding | None:
        """The embedding, or None."""
        path = self._path(key)
        try:
            found = unpack(path.read_bytes())
            os.utime(path)
        except OSError:
            return None
        except ValueError:
            with suppress(OSError):
                path.unlink()
            return None
        return found

    def put(self, key: str, embedding: Embedding) -> None:
        """Keep an embedding, and let the longest unused ones go where the limit is passed."""
        if self._broken or self.limit <= 0:
            return
        data = pack(embedding)
        try:
            write_bytes(self._path(key), data)
        except PipelineError as error:
            self._broken = True
            say(f"embeddings are no longer kept: {error}")
            return
        self._size = (self._measure() if self._size is None else self._size) + len(data)
        if self._size > self.limit:
            self._shrink()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.emb"

    def _entries(self) -> list[tuple[float, int, Path]]:
        """(time of last use, bytes, path) of every entry."""
        found = []
        for path in self.folder.glob("*/*.emb"):
            with suppress(OSError):  # another process let it go
                state = path.stat()
                found.append((state.st_mtime, state.st_size, path))
        return found

    def _measure(self) -> int:
        """The bytes of all entries but the one just written; sweeps what killed processes left."""
        for part in self.folder.glob("*/.*.part"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > 3600:
                    part.unlink()
        return sum(size for _, size, _ in self._entries())

    def _shrink(self) -> None:
        entries = sorted(self._entries())
        left = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if left <= self.limit * _SHARE:
                break
            with suppress(OSError):
                path.unlink()
            left -= size
        self._size = left


def key_of(*parts: str | bytes | memoryview) -> str:
    """One key for all that an embedding depends on: pixels, model, preprocessing."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(struct.pack("<Q", len(data)))
        digest.update(data)
    return digest.hexdigest()


def pack(embedding: Embedding) -> bytes:
    """(C, H, W) float16 as bytes. High bytes (sign, exponent) are alike and deflate to about half;
    low bytes are noise and are kept as they are."""
    from zlib_ng import zlib_ng

    if embedding.ndim != 3:
        raise ValueError(f"an embedding is (C, H, W), not {embedding.shape}")
    planes = np.ascontiguousarray(embedding, "<f2").view(np.uint8).reshape(-1, 2)
    high = zlib_ng.compress(planes[:, 1].tobytes(), _LEVEL)
    body = planes[:, 0].tobytes() + high
    return _HEAD.pack(_MAGIC, *embedding.shape, zlib.crc32(body)) + body


def unpack(data: bytes) -> Embedding:
    """Undo `pack`. Raises ValueError for damaged bytes."""
    from zlib_ng import zlib_ng

    if len(data) < _HEAD.size:
        raise ValueError("an embedding cut short")
    magic, channels, height, width, checksum = _HEAD.unpack_from(data)
    body = memoryview(data)[_HEAD.size :]
    count = channels * height * width
    if magic != _MAGIC or zlib.crc32(body) != checksum or len(body) < count:
        raise ValueError("a damaged embedding")
    planes = np.empty((count, 2), np.uint8)
    planes[:, 0] = np.frombuffer(body[:count], np.uint8)
    planes[:, 1] = np.frombuffer(zlib_ng.decompress(body[count:]), np.uint8)
    return planes.view("<f2").reshape(channels, height, width).astype(np.float16, copy=False)
