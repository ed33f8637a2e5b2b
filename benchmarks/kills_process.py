"""A command that a signal ends, and what becomes of its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
ORPHAN_SECONDS = 20.0  # torch's loaders see within five that their parent is gone
MARK = "PIPELINE_KILLS"  # in the environment of a trial's processes, also of orphans

Process = subprocess.Popen[bytes]
Wait = Callable[[Process], None]


@dataclass
class Ended:
    """How a process came to its end."""

    code: int
    errors: str
    seconds: float = 0.0  # since the signal
    orphans: list[str] = field(default_factory=list)
    in_time: bool = True  # the signal came before its end


def killed(command: list[str], home: Path, number: int, wait: Wait) -> Ended:
    """Start a command, send it a signal once `wait` returns, and wait for its end. Ctrl-C and a
    hangup go to all its processes, as a terminal sends them."""
    mark = uuid.uuid4().hex
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, cwd=home, env=environment({MARK: mark}),
            stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
        )  # fmt: skip
        try:
            wait(process)
            in_time = process.poll() is None
            began = time.perf_counter()
            if in_time:
                with suppress(ProcessLookupError):
                    group = number in (signal.SIGINT, signal.SIGHUP)
                    (os.killpg if group else os.kill)(process.pid, number)
            code = process.wait(600)
        finally:
            process.kill()
        seconds = time.perf_counter() - began
        errors.seek(0)
        text = errors.read()
    return Ended(128 - code if code < 0 else code, text, seconds, orphans(mark), in_time)


def wait_for_handlers(process: Process) -> None:
    """Until the command catches signals, or ends. Before that it has not begun."""
    bit = 1 << (signal.SIGTERM - 1)
    with suppress(OSError):
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            if int(status.partition("SigCgt:")[2].split()[0], 16) & bit:
                return
            time.sleep(0.001)


def wait_for_record(process: Process, output: Path) -> None:
    """Until run.json is about to go into place, or the process ends."""
    names = [f".{output.name}.part", f".{output.name}.unfinished", output.name]
    record = [output.parent / name / "run.json" for name in names]
    known = {path: path.stat().st_ino for path in record if path.exists()}
    while process.poll() is None:
        for path in record:
            with suppress(FileNotFoundError):
                if path.stat().st_ino != known.get(path):
                    return
        time.sleep(0.001)


def orphans(mark: str) -> list[str]:
    """The processes of a trial that are there for good after its end."""
    until = time.monotonic() + ORPHAN_SECONDS
    while (left := list(marked(mark))) and time.monotonic() < until:
        time.sleep(0.05)
    for pid, _ in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [words for _, words in left]


def marked(mark: str) -> Iterator[tuple[int, str]]:
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                yield int(folder.name), words.decode(errors="replace")[:200]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    weights = os.environ.get("PIPELINE_WEIGHTS", str(REPOSITORY / "weights"))
    own = {"PIPELINE_WEIGHTS": weights, "PIPELINE_CACHE": "cache"}
    return {"OMP_NUM_THREADS": "1", **os.environ, **own, **(more or {})}
