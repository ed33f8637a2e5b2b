"""What was computed once, on disk: bounded, and safe where several processes share it."""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from contextlib import suppress
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.io.write import write_bytes
from pipeline.progress import say

_ENVIRONMENT = "PIPELINE_CACHE"
_HEAD = struct.Struct("<4sI")  # magic, CRC-32 of what follows
_MAGIC = b"DPC1"
_SHARE = 0.9  # of the limit, that is left after old entries went
_ABANDONED_S = 3600  # after which a part that a killed process left is swept up


def cache_folder() -> Path:
    """Where the cache lies: $PIPELINE_CACHE, else the user's own."""
    if chosen := os.environ.get(_ENVIRONMENT):
        return Path(chosen)
    return Path.home() / ".cache" / "defect-pipeline"


class DiskCache:
    """Bytes by key, of at most `limit` in all; the longest unused go first. A limit of 0 keeps
    nothing, and finds nothing that others kept.

    Entries appear whole or not at all, and a damaged one counts as absent, so that processes may
    share a folder and be killed at any time. Where the disk refuses, work goes on without.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._size: int | None = None
        self._refused = False

    def get(self, key: str) -> bytes | None:
        """The entry's bytes, or None."""
        if self.limit <= 0:
            return None
        path = self._path(key)
        with suppress(OSError):
            data = path.read_bytes()
            head, body = data[: _HEAD.size], data[_HEAD.size :]
            if head == _HEAD.pack(_MAGIC, zlib.crc32(body)):
                os.utime(path)
                return body
            path.unlink()
        return None

    def put(self, key: str, data: bytes) -> None:
        """Keep an entry, and let the longest unused ones go where the limit is passed."""
        if self._refused or self.limit <= 0:
            return
        if self._size is None:
            self._sweep()
        try:
            write_bytes(self._path(key), _HEAD.pack(_MAGIC, zlib.crc32(data)) + data)
        except PipelineError as error:
            self._refused = True
            say(f"what is computed is no longer kept: {error}")
            return
        if self._size is None:
            self._size = sum(size for _, size, _ in self._entries())
        else:
            self._size += len(data) + _HEAD.size
        if self._size > self.limit:
            self._shrink()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.kept"

    def _entries(self) -> list[tuple[float, int, Path]]:
        """(time of last use, bytes, path) of every entry."""
        found = []
        for path in self.folder.glob("*/*.kept"):
            with suppress(OSError):  # another process let it go
                state = path.stat()
                found.append((state.st_mtime, state.st_size, path))
        return found

    def _sweep(self) -> None:
        for part in self.folder.glob("*/.*.part"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > _ABANDONED_S:
                    part.unlink()

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
    """One key for all that an entry depends on."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(struct.pack("<Q", memoryview(data).nbytes))
        digest.update(data)
    return digest.hexdigest()
