"""Write a local copy back to its address: the marker as begun, the files, the marker as whole.

Files that the store holds already are not sent again, so that a stopped upload goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.errors import DataError
from pipeline.io.read import sha256_of
from pipeline.io.remote.addresses import Place
from pipeline.io.remote.index import Copy, Index, open_index
from pipeline.io.remote.marker import MARKER, Head, Marker, UploadedFile, find_marker, write_marker
from pipeline.io.remote.mirror import listed, locked, md5_of, note_copy
from pipeline.io.remote.retry import at_once, retried
from pipeline.io.remote.stores import Entry, Store
from pipeline.runtime import signals
from pipeline.runtime.progress import Bar

_WORK = (".unfinished", ".part", ".lock", ".old")  # ends of a command's own hidden names


@dataclass(frozen=True)
class _Local:
    """A file of the copy. is_there: the store holds the same bytes."""

    key: str
    path: Path
    sha256: str
    is_there: bool


def upload(place: Place, command: str, call: str, fetched: set[str] | None = None) -> None:
    """Make a place what its copy holds.

    command, call: for the marker. fetched: of a folder that others wrote to, the keys that were
    brought: then what was added, changed and removed since is written, and no marker is made where
    there was none. Without it the place is an output of this command as a whole. Raises DataError.
    """
    store = place.store
    with locked(place), open_index(store.tree) as index:
        copies, old = index.below(place.key), find_marker(place)
        keys = sorted(_keys(place))
        if fetched is None:
            remote = listed(place, may_be_absent=True)
        else:
            keys = [key for key in keys if not _is_copy(copies.get(key), store.tree / key)]
            remote = _present(store, keys)
        local = list(at_once(partial(_hashed, store, copies, remote), keys))
        sent = [file for file in local if not file.is_there]
        own = copies.keys() | (old.files.keys() if old else set())  # not of others, since the fetch
        before = own & remote.keys() if fetched is None else fetched
        gone = {key for key in before if not _is_here(store, key)}
        _refuse_others(store, [file.key for file in sent], copies, remote, old)
        marker = _new_marker(place, old, Head("whole", command, call), local, gone, fetched is None)
        is_news = marker != old or bool(sent)
        if marker and is_news:
            files = {**(old.files if old else {}), **marker.files}
            write_marker(store, Marker(marker.anchor, Head("begun", command, call), files))
        _send(place, index, sent)
        for file in local:  # written again with the same bytes
            if (copy := copies.get(file.key)) and file.is_there and not copy.is_at(file.path):
                index.add(replace(copy, time_ns=file.path.stat().st_mtime_ns))
        retried(lambda: store.remove(gone), str(place), "written")
        index.forget(gone)
        if marker and is_news:
            write_marker(store, marker)


def _present(store: Store, keys: Iterable[str]) -> dict[str, Entry]:
    """Those of the files that the store holds."""
    present = {}
    for key in keys:
        with suppress(FileNotFoundError):
            head = partial(store.completed, Entry(key, None, ""))
            present[key] = retried(head, str(Place(store, key)))
    return present


def _refuse_others(
    store: Store, keys: Iterable[str], copies: Mapping[str, Copy], remote: Mapping[str, Entry],
    old: Marker | None,
) -> None:  # fmt: skip
    """Raise DataError for a file that was written by others since the place was fetched. Half an
    upload, which its marker lists, is replaced."""
    begun = old.files if old and old.head.state == "begun" else {}
    for key in keys:
        copy, entry = copies.get(key), remote.get(key)
        if entry is None or key in begun or (copy and copy.version == entry.version):
            continue
        if md5_of(store.tree / key) != entry.version:  # else this file, and its note was lost
            reason = "was written by others while the command ran"
            remedy = "move it away, and call the same command again: it goes on"
            raise DataError(str(Place(store, key)), reason, remedy)


def has_changes(place: Place) -> bool:
    """Whether a file of the copy was added or changed, and not uploaded since."""
    tree = place.store.tree
    with open_index(tree) as index:
        copies = index.below(place.key)
        return any(not _is_copy(copies.get(key), tree / key) for key in _keys(place))


def _is_copy(copy: Copy | None, path: Path) -> bool:
    return copy is not None and copy.is_at(path)


def _is_here(store: Store, key: str) -> bool:
    return (store.tree / key).is_file()


def _keys(place: Place) -> Iterator[str]:
    """The keys of all local files at and below a place."""
    if place.path.is_file():
        yield place.key
    for folder, below, names in os.walk(place.path):
        below[:] = [name for name in below if not _is_work(name)]
        for name in names:
            if name != MARKER and not _is_work(name):
                path = Path(folder) / name
                yield path.relative_to(place.store.tree).as_posix()


def _is_work(name: str) -> bool:
    return name.startswith(".") and name.endswith(_WORK)


def _hashed(
    store: Store, copies: Mapping[str, Copy], remote: Mapping[str, Entry], key: str
) -> _Local:
    """A local file with its sha256, and whether the store holds it. remote: what is there."""
    path, copy = store.tree / key, copies.get(key)
    is_same = _is_copy(copy, path)
    sha256 = copy.sha256 if copy and is_same and copy.sha256 else sha256_of(path)
    if copy is None or key not in remote or remote[key].version != copy.version:
        return _Local(key, path, sha256, False)
    return _Local(key, path, sha256, is_same or sha256 == copy.sha256)


def _new_marker(
    place: Place,
    old: Marker | None,
    head: Head,
    local: list[_Local],
    gone: set[str],
    is_output: bool,
) -> Marker | None:
    """The marker after the upload: of the folder that has one, else of a new output folder."""
    if old is None and (not is_output or place.path.is_file()):
        return None
    anchor = old.anchor if old else place.key
    left = gone | (set(old.below(place.key)) if old and is_output else set())
    kept = {k: file for k, file in old.files.items() if k not in left} if old else {}
    new = {file.key: _listed_file(anchor, file) for file in local}
    if old and not (is_output and anchor == place.key):  # the folder stays its command's
        head = Head(head.state, old.head.command, old.head.call)
    return Marker(anchor, head, kept | new)


def _listed_file(anchor: str, file: _Local) -> UploadedFile:
    state = file.path.stat()
    name = file.key.removeprefix(f"{anchor}/")
    return UploadedFile(name, state.st_size, file.sha256, state.st_mtime_ns)


def _send(place: Place, index: Index, files: list[_Local]) -> None:
    if not files:
        return
    send = partial(_send_file, place.store, index)
    if signals.exit_code():  # Ctrl-C is the usual end of `review`: its changes are sent
        for _ in at_once(send, files):
            pass
        return
    with Bar(f"upload {place}", len(files)) as bar:
        for _ in at_once(send, files):
            bar.update()


def _send_file(store: Store, index: Index, file: _Local) -> None:
    shown = str(Place(store, file.key))
    try:
        entry = retried(lambda: store.upload(file.path, file.key), shown, "written")
    except FileNotFoundError as error:
        raise DataError(shown, "cannot be written (no such bucket)", "create it") from error
    note_copy(index, entry, file.path, file.sha256)
