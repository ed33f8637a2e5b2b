"""A cache on disk with a size limit, safe for several processes at once."""

from __future__ import annotations

import hashlib
import os
import struct
from contextlib import suppress
from pathlib import Path

from pipeline.errors import DataError, PipelineError
from pipeline.io.cache_root import cache_root, go_without, remove_abandoned
from pipeline.io.read import read_bytes
from pipeline.io.write import write_bytes

_GIGABYTE = 1 << 30
_MAGIC = b"DPC2"
_HEAD_BYTES = len(_MAGIC) + hashlib.sha256().digest_size
_SHRINK_TO = 0.9  # of the limit, the size after old entries are removed


class DiskCache:
    """Bytes by key, `limit` bytes in all. The entries that were not used for the longest time are
    removed first. A limit of 0 turns the cache off.

    An entry appears whole or not at all. A damaged entry, or one under a wrong key, counts as
    absent. So processes may share a folder and be killed at any time. If the disk refuses, work
    goes on without the cache. The sha256 in each entry protects against damage, not against a
    person who can write to the folder: the decoder of an entry must check its content.
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
        try:
            data = read_bytes(path, self.limit)
        except DataError:
            data = b""
        body = memoryview(data)[_HEAD_BYTES:]
        with suppress(OSError):
            if data[:_HEAD_BYTES] == _head(key, body):
                with suppress(OSError):  # the folder may be for reading only
                    os.utime(path)
                return bytes(body)
            path.unlink()
        return None

    def put(self, key: str, data: bytes) -> None:
        """Write an entry, and remove old ones if the limit is exceeded."""
        if self._refused or self.limit <= 0:
            return
        if self._size is None:
            remove_abandoned(self.folder, "*/.*.part")
        try:
            entry = _head(key, data) + data
            write_bytes(self._path(key), entry, root=self.folder, durable=False)
        except (PipelineError, OSError, RuntimeError) as error:  # RuntimeError: a link to itself
            self._refused = True
            go_without(self.folder, error)
            return
        if self._size is None:
            self._size = sum(size for _, size, _ in self._entries())
        else:
            self._size += len(data) + _HEAD_BYTES
        if self._size > self.limit:
            self._shrink()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.kept"

    def _entries(self) -> list[tuple[float, int, Path]]:
        """(time of last use, bytes, path) of every entry."""
        entries = []
        with suppress(OSError):
            for path in self.folder.glob("*/*.kept"):
                with suppress(OSError):  # another process removed it
                    state = path.stat()
                    entries.append((state.st_mtime, state.st_size, path))
        return entries

    def _shrink(self) -> None:
        entries = sorted(self._entries())
        left = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if left <= self.limit * _SHRINK_TO:
                break
            with suppress(OSError):
                path.unlink()
            left -= size
        self._size = left


def disk_cache(gigabytes: float) -> DiskCache:
    """The user's cache, of at most so many gigabytes; 0 keeps nothing."""
    return DiskCache(cache_root() / "kept", int(gigabytes * _GIGABYTE))


def key_of(*parts: str | bytes | memoryview) -> str:
    """One key from everything that an entry depends on."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(struct.pack("<Q", memoryview(data).nbytes))
        digest.update(data)
    return digest.hexdigest()


def _head(key: str, body: bytes | memoryview) -> bytes:
    """The first bytes of an entry."""
    return _MAGIC + bytes.fromhex(key_of(key, body))
