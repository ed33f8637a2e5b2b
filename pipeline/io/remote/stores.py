"""A bucket or a web server through fsspec: one interface for all schemes.

The libraries read their credentials themselves, from the environment or from their own files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pipeline.errors import DataError

_EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure", "http": "http", "https": "http"}
_WEB = ("http", "https")
CONNECTIONS = 16  # files that are on their way at the same time
_TIMEOUT_S = 30  # without a byte, before another try
_VERSION = ("ETag", "etag", "md5Hash", "generation", "Last-Modified", "LastModified", "mtime")
_MODIFIED = ("LastModified", "last_modified", "mtime", "updated", "Last-Modified")
_SECOND = 10**9  # ns


@dataclass(frozen=True)
class Entry:
    """A file of a store. size: bytes; None where a web server does not say. version: changes with
    the content; "" where the store does not say. modified: seconds since 1970, 0 for unknown."""

    key: str
    size: int | None
    version: str
    modified: int = 0

    @property
    def time_ns(self) -> int:
        """The time that a copy gets: its fraction of a second tells one version from another."""
        digest = hashlib.sha256(f"{self.version} {self.size}".encode()).digest()
        return self.modified * _SECOND + int.from_bytes(digest[:4], "big") % _SECOND


@dataclass
class Store:
    """All buckets of one service, or a web server. identity: tells services apart. tree: the folder
    of the copies. folders: keys that were given as folders. secret: `user:password?query` of a web
    address."""

    scheme: str
    files: Any  # fsspec's file system, which has no types
    identity: str
    secret: str = ""
    tree: Path = Path()
    folders: set[str] = field(default_factory=set)

    @property
    def is_web(self) -> bool:
        """Whether it can only be read."""
        return self.scheme in _WEB

    def entry(self, key: str) -> Entry | None:
        """The file of this key; None for a folder. Raises FileNotFoundError for neither."""
        if self.is_web and (key in self.folders or "." not in key.rpartition("/")[2]):
            return None
        info = self.files.info(self._name(key))
        return None if info["type"] == "directory" else _entry(info, key)

    def completed(self, entry: Entry) -> Entry:
        """A file of a listing, with size and version. Raises FileNotFoundError."""
        return _entry(self.files.info(self._name(entry.key)), entry.key)

    def below(self, key: str) -> Iterator[Entry]:
        """Every file of a folder. Raises FileNotFoundError for a bucket that is not there."""
        if self.is_web:
            for url in self._linked(f"{self._name(key)}/"):
                yield Entry(self._key(url), None, "")
            return
        found = self.files.find(key, detail=True)
        while found:  # a million of its rows take a gigabyte
            name, info = found.popitem()
            if info["type"] != "directory" and not name.endswith("/"):
                yield _entry(info, name)

    def download(self, entry: Entry, path: Path) -> None:
        """Write a file's bytes into a local file."""
        self.files.get_file(self._name(entry.key), str(path))

    def upload(self, path: Path, key: str) -> Entry:
        """Write a local file into the store; returns it as the store has it."""
        self.files.put_file(str(path), key)
        entry = self.completed(Entry(key, None, ""))
        if entry.size != path.stat().st_size:
            raise OSError("the store has another size than the file")
        return entry

    def read(self, key: str) -> bytes:
        """The bytes of a small file. Raises FileNotFoundError."""
        content: bytes = self.files.cat_file(self._name(key))
        return content

    def write(self, key: str, content: bytes) -> None:
        """Write a small file."""
        self.files.pipe_file(key, content)

    def remove(self, keys: Iterable[str]) -> None:
        """Remove files; one that is gone is no error."""
        for key in keys:
            with suppress(FileNotFoundError):
                self.files.rm_file(key)

    def _name(self, key: str) -> str:
        """A key as fsspec takes it."""
        if not self.is_web:
            return key
        user, _, query = self.secret.partition("?")
        host, _, path = key.partition("/")
        account = f"{user}@" if user else ""
        return f"{self.scheme}://{account}{host}/{quote(path)}" + (f"?{query}" if query else "")

    def _key(self, url: str) -> str:
        parts = urlsplit(url)
        return unquote(f"{parts.netloc.rpartition('@')[2]}{parts.path}")

    def _linked(self, url: str) -> Iterator[str]:
        """The files that the pages of a folder link to, below it."""
        folders, seen = [url], {url}
        while folders:
            folder = folders.pop()
            for link in sorted(self.files.ls(folder, detail=False)):
                if link in seen or "?" in link or "#" in link or not link.startswith(folder):
                    continue
                seen.add(link)
                if link.endswith("/"):
                    folders.append(link)
                else:
                    yield link


def open_store(scheme: str, secret: str, shown: str) -> Store:
    """The store of a scheme. shown: one of its addresses, for the error. Raises DataError where its
    library is not installed, or finds no settings."""
    try:
        import fsspec

        files = fsspec.filesystem(
            scheme, skip_instance_cache=True, use_listings_cache=False, **_options(scheme)
        )
        return Store(scheme, files, _identity(scheme, files, secret), secret)
    except ImportError as error:
        extra = _EXTRAS[scheme]
        reason = f"needs the extra `{extra}`"
        remedy = f"install it: pip install 'defect-pipeline[{extra}]'"
        raise DataError(shown, reason, remedy) from error
    except Exception as error:  # of any library: what it lacks, such as the name of an account
        reason = f"its library cannot be used ({type(error).__name__})"
        raise DataError(shown, reason, "check its settings and credentials") from error


def _options(scheme: str) -> dict[str, Any]:
    """One try for each call: `retry` repeats it."""
    if scheme == "s3":
        once = {"total_max_attempts": 1, "mode": "standard"}
        return {
            "config_kwargs": {
                "retries": once,
                "read_timeout": _TIMEOUT_S,
                "max_pool_connections": 2 * CONNECTIONS,
            }
        }
    if scheme in _WEB:
        import aiohttp

        return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(sock_read=_TIMEOUT_S)}}
    return {}


def _identity(scheme: str, files: Any, secret: str) -> str:
    """What tells this service from another of its scheme."""
    if scheme == "s3":
        files.retries = 1
        files.connect()
        return str(files.s3.meta.endpoint_url)
    if scheme == "gs":
        return str(getattr(files, "_endpoint", ""))
    return str(getattr(files, "account_name", "")) if scheme == "az" else secret


def _entry(info: dict[str, Any], key: str) -> Entry:
    version = next((str(info[name]) for name in _VERSION if info.get(name)), "")
    size = None if info.get("size") is None else int(info["size"])
    return Entry(key, size, version.strip('"'), _seconds(info))


def _seconds(info: dict[str, Any]) -> int:
    """When a file was last changed, in seconds since 1970; 0 where the store does not say."""
    value = next((info[name] for name in _MODIFIED if info.get(name)), None)
    with suppress(ValueError, TypeError):
        if isinstance(value, str):
            is_http = "," in value
            value = parsedate_to_datetime(value) if is_http else datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return int(value.timestamp())
    return 0
