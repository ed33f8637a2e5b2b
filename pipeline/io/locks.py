"""One process at a time on one output folder."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.errors import DataError
from pipeline.io.write import open_own, write_error
from pipeline.runtime.signals import undivided

BUSY = "wait for it or choose another --output"  # the remedy where another process is at it
_commands: dict[Path, str] = {}  # by lock file; the system's locks ignore threads of a process
_guard = threading.Lock()


@contextmanager
def folder_lock(path: Path, command: str) -> Iterator[None]:
    """Hold the lock of the output folder `path`: the file `.NAME.lock` beside it, which names this
    process. The lock ends with the process, also if that is killed. Child processes do not inherit
    it.

    Raises DataError naming the process that holds it.
    """
    file = path.with_name(f".{path.name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    stream = None
    try:
        with undivided(), _guard:
            if file in _commands:
                raise _busy(path, {"pid": os.getpid(), "command": _commands[file]})
            stream = _locked(file, path)
            _commands[file] = command
        _write_holder(stream, command)
        yield
    finally:
        if stream is not None:
            with undivided(), _guard:
                with suppress(OSError):
                    file.unlink()  # before the lock ends: the next process sees that it is gone
                stream.close()
                del _commands[file]


def _locked(file: Path, path: Path) -> IO[bytes]:
    """The open lock file. A file that its holder has just removed is not a lock: try again."""
    while True:
        try:
            stream = open_own(file)
        except OSError as error:
            raise write_error(path, error) from error
        try:
            _lock(stream)
        except OSError as error:
            stream.seek(0)
            holder = stream.read(1000).decode(errors="replace")
            stream.close()
            raise _busy(path, _parsed(holder)) from error
        with suppress(OSError):
            if os.fstat(stream.fileno()).st_ino == file.stat().st_ino:
                return stream
        stream.close()


def _lock(stream: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:
        return  # no such locks on Windows
    fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write_holder(stream: IO[bytes], command: str) -> None:
    holder = {
        "pid": os.getpid(),
        "machine": platform.node(),
        "command": command,
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    with suppress(OSError):  # a full disk: the lock holds without its text
        stream.truncate(0)
        stream.write(json.dumps(holder).encode())
        stream.flush()


def _parsed(holder: str) -> dict[str, object]:
    with suppress(ValueError):
        content = json.loads(holder)
        if isinstance(content, dict):
            return content
    return {}


def _busy(path: Path, holder: dict[str, object]) -> DataError:
    who = f"process {holder['pid']}" if "pid" in holder else "another process"
    details = [f"`pipeline {holder['command']}`"] if "command" in holder else []
    details += [f"on {holder['machine']}"] if "machine" in holder else []
    details += [f"since {holder['since']}"] if "since" in holder else []
    text = f"is being written by {who}" + (f" ({', '.join(details)})" if details else "")
    return DataError(path, text, BUSY)
