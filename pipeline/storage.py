"""Files that are either whole or absent: every write goes to a temporary name and is renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import DataError

RUN_FILE = "run.json"  # what every command leaves in the folder it wrote, last of all
STARTED_FILE = "started.json"  # what a training leaves that may not have come to its end
_UNFINISHED = ".unfinished"
_SLACK_S = 60.0  # clocks of machines that share a disk, and copies of a folder
_GOES_WITH = ("evaluate",)  # of what lies beside it, and quickly made again
_CHUNK = 1 << 20


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` only if the block succeeds.

    Raises DataError (disk full, no permission, a folder in the way) naming `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_error(path: Path, error: OSError) -> DataError:
    """The one line for a write that the system refused."""
    reason = error.strerror or str(error)
    return DataError(path, f"cannot be written ({reason})", "free space or choose another --output")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with unix line ends, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys: the same value gives the same bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises DataError when it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(path, "no such file", "check the path") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(path, f"is not readable JSON ({error})", "write it anew") from error


def make_folder(path: Path) -> Path:
    """Create a folder and its parents. Raises DataError when the system refuses."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    return path


def place_file(source: Path, target: Path, copy: bool) -> None:
    """Put `source` at `target`: a hard link, or a copy on request or where no link can be.

    Not a symbolic link: datumaro (CVAT) and supervision refuse images that resolve to a place
    outside their folder.
    """
    make_folder(target.parent)
    try:
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


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def files_below(root: Path) -> Iterator[str]:
    """Every file below a folder, in a fixed order, one folder's names in memory at a time. What is
    hidden is passed over, and so are folders that a command of this pipeline wrote into it."""
    for folder, below, names in os.walk(root):
        if RUN_FILE in names and folder != str(root):
            below.clear()
            continue
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            if os.path.isfile(path := os.path.join(folder, name)):  # noqa: PTH113, PTH118
                yield path


@contextmanager
def whole_folder(path: Path, command: str, reads: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it takes the place of `path` only on success.

    An existing folder is replaced only when `refuse_to_replace` has nothing against it; otherwise
    DataError, so that nobody's files are lost.
    """
    refuse_to_replace(path, command, reads)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        make_folder(temporary)
        yield temporary
        _take_place(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def resumable_folder(
    path: Path, command: str, key: str, reads: Sequence[Path] = ()
) -> Iterator[Path]:
    """As `whole_folder`, but what is written stays when the block fails or the process dies, and
    is there again for the next call with the same `key`, which names all that it came from.

    Raises DataError too when another process is at it.
    """
    refuse_to_replace(path, command, reads)
    unfinished = path.with_name(f".{path.name}{_UNFINISHED}")
    try:
        with _lock(path.with_name(f".{path.name}.lock"), path):
            known = unfinished / ".key"
            if not known.is_file() or known.read_text(encoding="utf-8") != key:
                shutil.rmtree(unfinished, ignore_errors=True)
                make_folder(unfinished)
                write_text(known, key)
            try:
                yield unfinished
            except BaseException:
                if _is_bare(unfinished):
                    shutil.rmtree(unfinished, ignore_errors=True)  # nothing to go on from
                raise
            known.unlink()
            _take_place(unfinished, path)
    except OSError as error:
        raise write_error(path, error) from error


def _is_bare(unfinished: Path) -> bool:
    """Whether a folder holds its key and otherwise at most empty files."""
    files = (path for path in unfinished.rglob("*") if path.name != ".key")
    return not any(path.is_file() and path.stat().st_size for path in files)


@contextmanager
def _lock(file: Path, path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however that ends."""
    make_folder(file.parent)
    with file.open("w") as stream:
        try:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # no such locks on Windows
        except OSError as error:
            raise DataError(
                path, "is being written by another process", "wait for it or choose another"
            ) from error
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def refuse_to_replace(path: Path, command: str, reads: Sequence[Path] = ()) -> None:
    """Raise DataError unless `path` is free, or holds what an earlier run of `command` wrote, and
    nothing that `refuse_to_lose` would miss."""
    remedy = "choose another --output"
    if path.exists() and not path.is_dir():
        raise DataError(path, "is a file", remedy)
    if not path.is_dir() or not any(path.iterdir()):
        return
    if not (path / RUN_FILE).is_file():
        raise DataError(path, "holds files that this command did not write", remedy)
    if (other := read_json(path / RUN_FILE).get("command")) != command:
        raise DataError(path, f"holds what `pipeline {other}` wrote", remedy)
    refuse_to_lose(path, reads)


def refuse_to_lose(path: Path, reads: Sequence[Path] = ()) -> None:
    """Raise DataError if a folder that is to be replaced holds any of `reads`, another run, or a
    file that came or was changed after the run that wrote it, as by hand."""
    remedy = "choose another --output"
    for source in reads:
        if source.resolve().is_relative_to(path.resolve()):
            raise DataError(path, f"holds {source}, which would be read from", remedy)
    own = path / RUN_FILE
    written = own.stat().st_mtime if own.is_file() else float("inf")
    for place, folders, files in os.walk(path):
        inner = Path(place)
        done = inner != path and RUN_FILE in files
        if done and read_json(inner / RUN_FILE).get("command") in _GOES_WITH:
            folders.clear()
            continue
        begun = STARTED_FILE in files and inner != path
        begun |= any(name.endswith(_UNFINISHED) for name in folders)
        if done or begun:
            raise DataError(path, f"holds another run, in {inner}", remedy)
        for file in (inner / name for name in files):
            if _is_later(file, written):
                raise DataError(file, "was changed after the run that wrote its folder",
                                f"move it away, or {remedy}")  # fmt: skip


def _is_later(file: Path, written: float) -> bool:
    """Whether somebody wrote a file later than a run did. A link to another file changes with that
    one; caches and hidden files are no work of anybody's."""
    state = file.lstat()
    passed = file.name.startswith(".") or file.suffix == ".cache" or state.st_nlink > 1
    return not passed and state.st_mtime > written + _SLACK_S


def _take_place(finished: Path, path: Path) -> None:
    retired = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        path.rename(retired)
    finished.rename(path)
    shutil.rmtree(retired, ignore_errors=True)
