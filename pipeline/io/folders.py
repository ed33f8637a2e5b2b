"""Output folders. Each appears whole or not at all, is written by one process at a time, and
replaces only the output of an earlier run of the same command."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import DataError
from pipeline.io.locks import folder_lock
from pipeline.io.manifest import WORK, refuse_changed
from pipeline.io.read import RUN_FILE, read_json
from pipeline.io.work_log import has_items, log_files, read_key, write_key
from pipeline.io.write import (
    make_folder,
    remove_torn,
    remove_tree,
    sync_file,
    sync_file_system,
    write_error,
    writing_below,
)
from pipeline.runtime.progress import say
from pipeline.runtime.signals import undivided

_REMEDY = "choose another --output"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@contextmanager
def whole_folder(path: Path, command: str, reads: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it replaces `path` only on success.

    Raises DataError as `refuse_to_replace`, and when another process is at it.
    """
    path = checked_output(path, command, reads)
    staging = path.with_name(f".{path.name}.part")
    with folder_lock(path, command):
        checked_at = _prepared(path, command, reads)
        remove_tree(staging)
        try:
            with writing_below(staging):
                make_folder(staging)
                yield staging
            _take_place(staging, path, checked_at)
        except OSError as error:
            raise write_error(path, error) from error
        finally:
            with undivided(), suppress(DataError):
                remove_tree(staging)


@contextmanager
def resumable_folder(
    path: Path, command: str, key: str, reads: Sequence[Path] = (), overwrite: bool = False
) -> Iterator[Path]:
    """As `whole_folder`, but the files stay when the block fails or the process dies. The next call
    with the same `key` gets them again; the key stands for all inputs and settings.

    Files that only a stopped run needs lie in the folder `WORK` inside, which is removed at the
    end. overwrite: unfinished work of another key is removed; without it such work is a DataError.
    """
    path = checked_output(path, command, reads)
    unfinished = path.with_name(f".{path.name}.unfinished")
    with folder_lock(path, command):
        checked_at = _prepared(path, command, reads)
        if unfinished.is_symlink() or not has_key(unfinished, key):
            _refuse_to_drop(unfinished, path, overwrite)
            remove_tree(unfinished)
        remove_torn(unfinished)
        try:
            with writing_below(unfinished):
                make_folder(unfinished / WORK)
                write_key(unfinished, key)
                try:
                    yield unfinished
                except BaseException:
                    with suppress(DataError):
                        if _is_bare(unfinished):
                            remove_tree(unfinished)
                    raise
            _take_place(unfinished, path, checked_at)
            remove_tree(path / WORK)  # not earlier: `_refuse_to_drop` tells old outputs by it
        except OSError as error:
            raise write_error(path, error) from error


def has_key(unfinished: Path, key: str) -> bool:
    """Whether a folder holds work with this key: unfinished, or finished but not yet moved to the
    output."""
    with suppress(DataError):  # a damaged log: the work counts only if it is finished
        if (own := read_key(unfinished)) is not None:
            return own == key
    try:
        record = read_json(unfinished / RUN_FILE)
    except DataError:
        return False
    return isinstance(record, dict) and record.get("resume_key") == key


def clear_work(path: Path, command: str) -> None:
    """Remove the work folder that a run left in its finished output when it was killed at the very
    end. Raises DataError when another process is writing the output."""
    with folder_lock(path, command):
        remove_tree(path / WORK)


def checked_output(path: Path, command: str, reads: Sequence[Path] = ()) -> Path:
    """`path`, absolute. Raises DataError for an output that cannot be one: the current folder or
    one above it, a folder that is read from, or one inside it."""
    path = Path(os.path.abspath(path))  # noqa: PTH100  # a link given as --output stays one
    if Path.cwd().is_relative_to(path):
        raise DataError(path, "is the folder you are in, or above it", "name a new folder in it")
    for source in reads:
        place = source.resolve()
        if place.is_relative_to(path.resolve()):
            raise DataError(path, f"holds {source}, which would be read from", _REMEDY)
        if source.is_dir() and path.resolve().is_relative_to(place):
            raise DataError(path, f"lies inside {source}, which `{command}` reads", _REMEDY)
    return path


def refuse_to_replace(path: Path, command: str, reads: Sequence[Path] = ()) -> None:
    """Raise DataError unless `path` is free, or holds exactly what an earlier run of `command`
    wrote: no other file, no changed file, no other run, nothing that is read from."""
    if path.is_symlink():
        raise DataError(path, "is a link", "give the folder that it leads to")
    if path.exists() and not path.is_dir():
        raise DataError(path, "is a file", _REMEDY)
    if not path.is_dir() or not any(path.iterdir()):
        return
    if not (path / RUN_FILE).is_file():
        raise DataError(path, "holds files that this command did not write", _REMEDY)
    record = read_json(path / RUN_FILE)
    if not isinstance(record, dict) or not isinstance(record.get("command"), str):
        raise DataError(path / RUN_FILE, "is not what a command of this pipeline writes", _REMEDY)
    if record["command"] != command:
        raise DataError(path, f"holds what `pipeline {record['command']}` wrote", _REMEDY)
    checked_output(path, command, reads)
    refuse_changed(path)


def _prepared(path: Path, command: str, reads: Sequence[Path]) -> int:
    """Move back the output that a killed run moved away, remove its temporary files, and check the
    output. Returns the system's time of the check in ns, for `_take_place`."""
    retired = _retired(path)
    if retired.is_dir() and not retired.is_symlink() and not path.exists():
        retired.rename(path)
    else:
        remove_tree(retired)
    remove_tree(path / WORK)
    checked_at = time.time_ns()
    refuse_to_replace(path, command, reads)
    return checked_at


def _retired(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _refuse_to_drop(unfinished: Path, path: Path, overwrite: bool) -> None:
    if (unfinished / RUN_FILE).is_file() and not (unfinished / WORK).exists():
        return  # the old output, of a run that was killed when it had just replaced it
    if unfinished.is_dir() and not overwrite and not _is_bare(unfinished):
        raise DataError(
            path,
            f"a run of other settings or inputs was stopped; its work lies in {unfinished}",
            "finish it by its own call, add --overwrite to drop it, or " + _REMEDY,
        )


def _is_bare(unfinished: Path) -> bool:
    """Whether a folder holds no finished item and no file with content: there is no work in it.
    Raises DataError for a damaged log."""
    if unfinished.is_symlink() or has_items(unfinished):
        return False
    own = log_files(unfinished)
    files = (path for path in unfinished.rglob("*") if path not in own)
    return not any(path.is_file() and path.stat().st_size for path in files)


def _take_place(finished: Path, path: Path, checked_at: int) -> None:
    """Sync a finished folder to the disk and put it in the place of `path`. The old folder is
    removed if it has not changed since the check; otherwise it is kept under another name."""
    sync_file_system(finished)
    if not path.exists():
        finished.rename(path)
        sync_file(path.parent)
        return
    kept = not _is_unchanged(path, checked_at)
    with undivided():
        old = _swapped(finished, path)
        if not kept:
            remove_tree(old)
            return
    aside = _free_name(path)
    old.rename(aside)
    say(f"{path}: was changed while the command ran; what was there is kept as {aside}")


def _swapped(finished: Path, path: Path) -> Path:
    """Put `finished` in the place of `path`; returns the new path of the old folder."""
    old = _retired(path)
    if _exchange(finished, path):
        finished.rename(old)
    else:
        path.rename(old)
        finished.rename(path)
    sync_file(path.parent)
    return old


def _is_unchanged(path: Path, since: int) -> bool:
    """Whether no file below a folder was added or changed since a time, by the times of the file
    system; if one was, whether the folder still holds exactly the files of its run."""
    slack = 2 * 10**9  # a disk's clock and grain
    for place, _, names in os.walk(path):
        inner = Path(place)
        for entry in (inner, *(inner / name for name in names)):
            with suppress(FileNotFoundError):
                if entry.lstat().st_ctime_ns >= since - slack:
                    try:
                        refuse_changed(path)
                    except DataError:
                        return False
                    return True
    return True


def _free_name(path: Path) -> Path:
    number = 1
    while (name := path.with_name(f"{path.name}.kept{number}")).exists():
        number += 1
    return name


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step where the system can (renameat2, Linux); False where not."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    names = (os.fsencode(one), os.fsencode(other))
    return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)
