"""Writing files: each whole or absent, and none outside the folders that a command may write to."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pipeline.errors import DataError

_roots: list[Path] = []  # the output folders that this process has open, links resolved


@contextmanager
def writing_below(*roots: Path) -> Iterator[None]:
    """Within the block, files are written below one of `roots` (or roots of an outer block) and
    nowhere else; they reach the disk when the folder as a whole does (`folders.whole_folder`)."""
    resolved = [Path(os.path.realpath(root)) for root in roots]
    _roots.extend(resolved)
    try:
        yield
    finally:
        for root in resolved:
            _roots.remove(root)


def open_roots() -> tuple[Path, ...]:
    """The folders that may be written to now, to pass to another process; () is any folder."""
    return tuple(_roots)


def adopt_roots(roots: Sequence[Path]) -> None:
    """Allow this process to write only below `roots`, the open roots of its parent."""
    _roots[:] = roots


@contextmanager
def whole_file(path: Path, root: Path | None = None, durable: bool | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` only if the block succeeds.

    root: the folder that `path` must lie in, links resolved; without it, one of the output folders
    that are open. durable: the bytes are on the disk when the block ends; by default so, but inside
    an open output folder only when that is finished. Raises DataError (disk full, no permission, a
    folder in the way, outside the root) naming `path`.
    """
    _refuse_outside(path, root)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(suffix=".part", prefix=".", dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        temporary.chmod(0o666 & ~_UMASK)  # mkstemp's own is for the owner alone
        yield temporary
        if (root is not None or not _roots) if durable is None else durable:
            sync_file(temporary)
            temporary.replace(path)
            sync_file(path.parent)
        else:
            temporary.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def write_error(path: Path, error: OSError) -> DataError:
    """The one line for a write that the system refused."""
    reason = error.strerror or str(error)
    return DataError(path, f"cannot be written ({reason})", "free space or choose another --output")


def write_text(path: Path, text: str, durable: bool | None = None) -> None:
    """Write UTF-8 text with unix line ends, whole or not at all. Raises DataError, also for text
    that is not Unicode, such as a name in another encoding."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        reason = f"would hold text that is not Unicode ({error.object[error.start]!a})"
        raise DataError(path, reason, "rename the file or category it comes from") from error
    write_bytes(path, data, durable=durable)


def write_bytes(
    path: Path, data: bytes, root: Path | None = None, durable: bool | None = None
) -> None:
    """Write bytes, whole or not at all; see `whole_file`."""
    with whole_file(path, root, durable) as temporary:
        temporary.write_bytes(data)


def json_text(value: Any) -> str:
    """`value` as indented JSON with sorted keys: the same value gives the same text."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any, durable: bool | None = None) -> None:
    """Write `value` as `json_text`, whole or not at all; see `whole_file`."""
    write_text(path, json_text(value), durable)


def make_folder(path: Path, root: Path | None = None) -> Path:
    """Create a folder and its parents; `root` as in `whole_file`. Raises DataError when the system
    refuses."""
    _refuse_outside(path / "_", root)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    return path


def place_file(source: Path, target: Path, copy: bool) -> None:
    """Put `source` at `target`: a hard link, or a copy on request or where no link can be.

    Not a symbolic link: datumaro (CVAT) and supervision refuse images that resolve to a place
    outside their folder. Raises DataError as `whole_file`.
    """
    _refuse_outside(target, None)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if not copy:
            try:
                target.hardlink_to(source.resolve())
                return
            except OSError:
                pass  # another file system, or one without links
        with whole_file(target) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise write_error(target, error) from error


def open_own(path: Path) -> IO[bytes]:
    """Open a file of this program for reading and writing; create it if missing. A link in its
    place is removed, also a second name of another file: what it leads to stays as it is. Raises
    OSError."""
    with suppress(FileNotFoundError):
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
            path.unlink()
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "r+b")


def sync_file(path: Path) -> None:
    """Sync a file, or the names in a folder, to the disk. Errors are ignored: some systems cannot
    sync folders."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_file_system(folder: Path) -> None:
    """Sync the whole file system of a folder to the disk, in one call: a call for each of a hundred
    thousand files takes minutes."""
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError, TypeError):
        os.sync() if hasattr(os, "sync") else None
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            if syncfs(descriptor):
                os.sync()
        finally:
            os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a file, a link (never what it points to) or a folder with all that is in it. Raises
    DataError when something is left."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(path, f"cannot be removed ({error.strerror})", "remove it") from error


def remove_torn(folder: Path) -> None:
    """Remove the unfinished files of a killed process below `folder`, see `whole_file`."""
    if not folder.is_symlink():
        for path in folder.rglob(".*.part"):
            remove_tree(path)


def _refuse_outside(path: Path, root: Path | None) -> None:
    roots = [Path(os.path.realpath(root))] if root is not None else _roots
    if not roots:
        return
    place = os.path.join(os.path.realpath(path.parent), "")  # noqa: PTH118  # once a file: quick
    if not any(place.startswith(os.path.join(inside, "")) for inside in roots):  # noqa: PTH118
        raise DataError(
            path, f"lies outside the folder that is written, {roots[-1]}",
            "remove the link or the name that leads there",
        )  # fmt: skip


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()  # once: reading it changes it for a moment, for all threads
