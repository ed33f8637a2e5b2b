"""Scripts in a process of their own, and the processes that a process has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

_TOO_LONG = 900.0  # seconds; the slowest takes about 60 alone on a machine


def output_of(script: str, *arguments: object) -> str:
    """What a Python script prints. Raises AssertionError with its traceback."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=_TOO_LONG)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors
    return output


def children_called(name: bytes, process: int) -> list[int]:
    """The processes below a process whose command line holds `name`, by their numbers. Only Linux
    lists them."""
    found = []
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = map(int, listed.read_text().split())
        except OSError:  # the thread has ended
            continue
        for child in children:
            if name in _command_line(child):
                found.append(child)
            found += children_called(name, child)
    return sorted(found)


def _command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
