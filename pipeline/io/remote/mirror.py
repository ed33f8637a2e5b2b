"""Bring an address to its local copy: only what is not there yet, several files at once.

Each file is written under another name, checked, and moved to its place; what was fetched stays
when the process dies. What is gone from the bucket goes from the copy.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from pipeline.errors import DataError
from pipeline.io.cache_root import remove_abandoned
from pipeline.io.names import leaves_its_folder
from pipeline.io.remote.addresses import Place
from pipeline.io.remote.index import Copy, Index, open_index
from pipeline.io.remote.marker import MARKER, Marker, UploadedFile
from pipeline.io.remote.retry import UnlikeListedError, at_once, retried
from pipeline.io.remote.stores import Entry, Store
from pipeline.io.write import open_own, write_error
from pipeline.runtime.progress import Bar

_PARTIAL = ".partial"  # in a tree: files that are on their way
_MD5 = re.compile("[0-9a-f]{32}")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class _File:
    """A file to fetch. uploaded: what its marker says, where it has one."""

    entry: Entry
    uploaded: UploadedFile | None

    @property
    def time_ns(self) -> int:
        return self.uploaded.time_ns if self.uploaded else self.entry.time_ns


def fetch(place: Place, marker: Marker | None = None, keeps: bool = False) -> set[str]:
    """Make the copy of a place what the store holds; returns the keys of its files.

    marker: of the folder, or of one that holds it. keeps: what was changed in the copy since stays,
    and the place may be absent. Raises DataError for a place that is not there, for a file that
    cannot be fetched, for a file that its marker lists and that is not there, and for one that was
    changed in the copy and in the store.
    """
    store = place.store
    with locked(place), open_index(store.tree) as index:
        entries = listed(place, may_be_absent=keeps)
        is_whole = marker is not None and marker.head.state == "whole"
        uploaded = marker.below(place.key) if marker and is_whole else {}
        _refuse_incomplete(place, entries, uploaded)
        copies = index.below(place.key)
        wanted = [
            _File(entry, _of_this_size(uploaded.get(key), entry))
            for key, entry in entries.items()
            if _is_wanted(store, entry, copies.get(key), keeps)
        ]
        _remove_gone(store, index, [c for k, c in copies.items() if k not in entries], keeps)
        remove_abandoned(store.tree / _PARTIAL, "*")
        if wanted:
            with Bar(f"fetch {place}", len(wanted)) as bar:
                for _ in at_once(partial(_fetch_file, store, index), wanted):
                    bar.update()
    return set(entries)


def listed(place: Place, may_be_absent: bool = False) -> dict[str, Entry]:
    """The files at or below a place, by key, without its marker. Raises DataError for a place that
    is not there, and for a name that cannot be that of a local file."""
    store = place.store
    try:
        entry = retried(lambda: store.entry(place.key), str(place))
        if entry is not None:
            return {place.key: entry}
        below = retried(lambda: list(store.below(place.key)), str(place))
    except FileNotFoundError as error:
        if may_be_absent and "/" in place.key and _has_bucket(place):
            return {}
        what = "bucket" if may_be_absent else "file or folder"
        remedy = "check the address, and that your credentials may list it"
        raise DataError(str(place), f"no such {what}", remedy) from error
    if store.is_web:
        if not below:
            reason = "is a page that names no file below it"
            remedy = "give a folder that the server lists, or a file"
            raise DataError(str(place), reason, remedy)
        below = list(at_once(partial(_completed, store), below))
    entries = {e.key: e for e in below if e.key.rpartition("/")[2] != MARKER}
    for key in entries:
        name = key.removeprefix(f"{place.key}/")
        if leaves_its_folder(name) or any(part in ("", ".") for part in name.split("/")):
            reason = "has a name that cannot be that of a file here"
            raise DataError(str(Place(store, key)), reason, "rename it")
    return dict(sorted(entries.items()))


def note_copy(index: Index, entry: Entry, path: Path, sha256: str = "") -> None:
    """Note that a local file is a copy of what the store holds."""
    state = path.stat()
    index.add(Copy(entry.key, entry.version, state.st_size, state.st_mtime_ns, sha256))


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """One process at a time on a place; others wait."""
    name = hashlib.sha256(place.key.encode()).hexdigest()[:16]
    file = place.store.tree / ".locks" / name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = open_own(file)
    except OSError as error:
        raise write_error(file, error) from error
    with stream:
        with suppress(ImportError):  # no such locks on Windows
            import fcntl

            fcntl.lockf(stream, fcntl.LOCK_EX)
        yield


def _has_bucket(place: Place) -> bool:
    bucket = Place(place.store, place.key.partition("/")[0])
    with suppress(FileNotFoundError):
        retried(lambda: place.store.files.info(bucket.key), str(bucket))
        return True
    return False


def _completed(store: Store, entry: Entry) -> Entry:
    try:
        return retried(lambda: store.completed(entry), str(Place(store, entry.key)))
    except FileNotFoundError as error:
        raise _gone(store, entry.key) from error


def _is_wanted(store: Store, entry: Entry, copy: Copy | None, keeps: bool) -> bool:
    """Whether a file is to be fetched. Raises DataError where that would lose a change."""
    path = store.tree / entry.key
    is_new = copy is None or not copy.version or copy.version != entry.version
    if copy is not None and copy.is_at(path):
        return is_new or entry.size not in (None, copy.size)
    if not keeps or not path.is_file() or (copy is not None and not copy.version):
        return True
    if not is_new:
        return False  # changed here alone
    reason = "was changed both there and in its copy, which an earlier call left"
    remedy = "to take what is there, remove `remote` in the folder of the cache (PIPELINE_CACHE)"
    raise DataError(str(Place(store, entry.key)), reason, remedy)


def _of_this_size(uploaded: UploadedFile | None, entry: Entry) -> UploadedFile | None:
    return uploaded if uploaded and uploaded.size == entry.size else None


def _refuse_incomplete(
    place: Place, entries: Mapping[str, Entry], uploaded: Mapping[str, UploadedFile]
) -> None:
    """Raise DataError where a file of an upload is not there, or has another size."""
    for key, file in uploaded.items():
        entry = entries.get(key)
        if entry is None or entry.size not in (None, file.size):
            what = "is not there" if entry is None else "has another size"
            reason = f"is listed in {MARKER} of its upload, and {what}"
            remedy = f"upload the folder again, or remove {MARKER} to read it as it is"
            raise DataError(str(Place(place.store, key)), reason, remedy)


def _remove_gone(store: Store, index: Index, copies: Iterable[Copy], keeps: bool) -> None:
    """Remove the copies of files that are gone from the store."""
    gone = list(copies)
    for copy in gone:
        path = store.tree / copy.key
        if not keeps or copy.is_at(path):
            with suppress(OSError):
                path.unlink()
            with suppress(OSError):
                for folder in path.parents:  # until one that is not empty
                    if folder == store.tree:
                        break
                    folder.rmdir()
    index.forget(copy.key for copy in gone)


def _fetch_file(store: Store, index: Index, file: _File) -> None:
    """Fetch one file to its place, and note it."""
    entry, path = file.entry, store.tree / file.entry.key
    shown = str(Place(store, entry.key))
    arrived = store.tree / _PARTIAL / uuid4().hex
    try:
        arrived.parent.mkdir(parents=True, exist_ok=True)
        sha256 = retried(partial(_arrive, store, file, arrived), shown)
        os.utime(arrived, ns=(file.time_ns, file.time_ns))
        state = arrived.stat()
        index.add(Copy(entry.key, "", state.st_size, state.st_mtime_ns))  # before: none is unknown
        path.parent.mkdir(parents=True, exist_ok=True)
        arrived.replace(path)
        index.add(Copy(entry.key, entry.version, state.st_size, state.st_mtime_ns, sha256))
    except FileNotFoundError as error:
        raise _gone(store, entry.key) from error
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):
            arrived.unlink()


def _arrive(store: Store, file: _File, path: Path) -> str:
    """Download a file and check it; returns its sha256 where its marker has one."""
    entry = file.entry
    store.download(entry, path)
    if entry.size is not None and path.stat().st_size != entry.size:
        raise UnlikeListedError("the file arrived in part")
    has_md5 = store.scheme == "s3" and _MD5.fullmatch(entry.version) is not None
    is_other = has_md5 and md5_of(path) != entry.version  # changed, or encrypted by a key of AWS
    if is_other and store.completed(entry).version != entry.version:
        raise _gone(store, entry.key)
    if file.uploaded is None:
        return ""
    if (sha256 := _digest(path, hashlib.sha256)) != file.uploaded.sha256:
        raise UnlikeListedError("its sha256 is not that of its upload")
    return sha256


def md5_of(path: Path) -> str:
    """The MD5 of a file, which S3 has for the version of most."""
    return _digest(path, partial(hashlib.md5, usedforsecurity=False))


def _digest(path: Path, kind: Callable[[], hashlib._Hash]) -> str:
    digest = kind()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _gone(store: Store, key: str) -> DataError:
    reason = "was changed while it was read"
    return DataError(str(Place(store, key)), reason, "call the same command again")
