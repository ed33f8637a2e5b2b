"""An address, such as `s3://bucket/photos`, and the local path of its copy.

Credentials that an address holds stay in memory. No path, message or file has them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pipeline.errors import DataError, show_as_address
from pipeline.io.cache_root import cache_root
from pipeline.io.names import leaves_its_folder

if TYPE_CHECKING:
    from pipeline.io.remote.stores import Store

WEB = ("http", "https")
SCHEMES = ("s3", "gs", "az", *WEB)
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_COLLAPSED = re.compile(rf"({'|'.join(SCHEMES)}):/+")  # what pathlib makes of an address
_SIGNED = re.compile(r"[?&](x-(amz|goog)-|sig(nature)?=|se=|token=|AWSAccessKeyId=)", re.IGNORECASE)

_stores: dict[tuple[str, str], Store] = {}  # by scheme, and by the credentials in an address


@dataclass(frozen=True)
class Place:
    """Where a local copy comes from. key: `bucket/path`, or `host/path` with its characters
    unquoted; it ends without a slash. is_folder: it was given with a slash at its end."""

    store: Store
    key: str
    is_folder: bool = False

    @property
    def path(self) -> Path:
        """Where the copy lies, absolute."""
        return self.store.tree / self.key

    def __str__(self) -> str:
        return f"{self.store.scheme}://{self.key}"


def is_address(value: object) -> bool:
    """Whether a text is an address of a known scheme, and not a local path. A path that was made of
    an address counts too, where no such folder exists."""
    text = str(value)
    if not isinstance(value, Path):
        return text.startswith(tuple(f"{scheme}://" for scheme in SCHEMES))
    return bool(_COLLAPSED.match(text)) and not Path(text.partition("/")[0]).exists()


def refuse_other_schemes(text: str) -> None:
    """Raise DataError for the address of a scheme that is not read."""
    if (match := _ADDRESS.match(text)) and not is_address(text):
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise DataError(f"{match[1]}://...", "is no address that is read", f"use one of {known}")


def local_path(value: str | Path) -> Path:
    """The path of an address's copy; the copy need not be there yet. Raises DataError for an
    address that cannot be one, and where the library of its scheme is not installed."""
    return _parsed(str(value)).path


def place_of(path: Path) -> Place | None:
    """What a path of this process is the copy of; None for another path."""
    for store in _stores.values():
        if path.is_relative_to(store.tree) and path != store.tree:
            key = path.relative_to(store.tree).as_posix()
            return Place(store, key, key in store.folders)
    return None


def has_addresses() -> bool:
    """Whether this process was given an address."""
    return bool(_stores)


def forget_addresses() -> None:
    """Forget the stores that were opened, with their settings. The copies stay."""
    _stores.clear()


def _parsed(text: str) -> Place:
    scheme, rest = re.split(r"://|:/", text, maxsplit=1)
    secret = ""
    if scheme in WEB:
        url = urlsplit(f"{scheme}://{rest}")
        user, _, host = url.netloc.rpartition("@")
        secret, key = f"{user}?{url.query}".strip("?"), unquote(f"{host}{url.path}")
        if secret:
            secret = f"{user}?{url.query}"
    else:
        key = rest
        _refuse_credentials(scheme, key)
    is_folder, key = key.endswith("/"), key.rstrip("/")
    parts = key.split("/")
    if not parts[0] or any(part in ("", ".", "..") for part in parts) or leaves_its_folder(key):
        raise DataError(f"{scheme}://{key}", "is not an address", "write scheme://bucket/path")
    store = _store(scheme, secret, f"{scheme}://{key}")
    if is_folder:
        store.folders.add(key)
    return Place(store, key, is_folder)


def _refuse_credentials(scheme: str, key: str) -> None:
    bucket = key.partition("/")[0]
    if "@" in bucket or ":" in bucket or _SIGNED.search(key):
        clean = _SIGNED.split(key)[0].rpartition("@")[2]
        remedy = "leave them out: they are read from the environment or from the library's files"
        raise DataError(f"{scheme}://{clean}", "holds credentials", remedy)


def _store(scheme: str, secret: str, shown: str) -> Store:
    """The store of an address, opened once. shown: the address without credentials."""
    from pipeline.io.remote.stores import open_store

    if (scheme, secret) not in _stores:
        store = open_store(scheme, secret, shown)
        digest = hashlib.sha256(store.identity.encode()).hexdigest()[:12]
        store.tree = cache_root().absolute() / "remote" / f"{scheme}-{digest}"
        show_as_address(store.tree, f"{scheme}://")
        _stores[scheme, secret] = store
    return _stores[scheme, secret]
