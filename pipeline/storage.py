"""Files that are either whole or absent: every write goes to a temporary name and is renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import DataError

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


@contextmanager
def whole_folder(path: Path, owner: str) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it takes the place of `path` only on success.

    An existing folder is replaced only when it holds the file `owner`, by which the pipeline marks
    what it wrote; otherwise DataError, so that nobody's files are lost.
    """
    _check_replaceable(path, owner)
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
def resumable_folder(path: Path, owner: str, key: str) -> Iterator[Path]:
    """As `whole_folder`, but what is written stays when the block fails or the process dies, and
    is there again for the next call with the same `key`, which names all that it came from.

    Raises DataError too when another process is at it.
    """
    _check_replaceable(path, owner)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with _lock(path.with_name(f".{path.name}.lock"), path):
            known = unfinished / ".key"
            if not known.is_file() or known.read_text(encoding="utf-8") != key:
                shutil.rmtree(unfinished, ignore_errors=True)
                make_folder(unfinished)
                write_text(known, key)
            yield unfinished
            known.unlink()
            _take_place(unfinished, path)
    except OSError as error:
        raise write_error(path, error) from error


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
        yield
        file.unlink(missing_ok=True)


def _check_replaceable(path: Path, owner: str) -> None:
    if path.exists() and not path.is_dir():
        raise DataError(path, "is a file", "choose another --output")
    if path.is_dir() and any(path.iterdir()) and not (path / owner).is_file():
        raise DataError(
            path, "holds files that this command did not write", "choose another --output"
        )


def _take_place(finished: Path, path: Path) -> None:
    retired = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        path.rename(retired)
    finished.rename(path)
    shutil.rmtree(retired, ignore_errors=True)
