"""Attacks in processes of their own: a crash ends one of them, not the search."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from .canaries import set_up
from .samples import Kind
from .trial import Outcome, clear, hush, try_one
from .values import Places

_FILE = 1 << 30  # bytes of a file: the scratch may lie in memory


class NoSampleError(Exception):
    """The valid sample cannot be made: the program does not work."""


def attack(
    name: str, kind: Kind, seeds: Sequence[int], root: Path
) -> Iterator[tuple[int, Outcome]]:
    """The outcome of each seed, in order. Raises NoSampleError."""
    template = root / "templates" / name
    done = 0
    while done < len(seeds):
        for outcome in _batch(name, kind, seeds[done:], root, template):
            yield seeds[done], outcome
            done += 1


def _batch(
    name: str, kind: Kind, seeds: Sequence[int], root: Path, template: Path
) -> Iterator[Outcome]:
    """The outcomes of a process, up to the one that it dies by."""
    read, write = os.pipe()
    stacks = root / "stacks.txt"
    child = os.fork()
    if not child:
        os.close(read)
        _work(name, kind, seeds, root, template, write, stacks)
    os.close(write)
    started = False
    with os.fdopen(read, "rb") as answers:
        for line in _lines(answers, child, 3 * kind.seconds):
            if line == b"start\n":
                started = True
            elif line:
                started = False
                yield Outcome(**json.loads(line))
            else:
                break
    _, status = os.waitpid(child, 0)
    if started:
        yield _death(status, stacks)
    elif status:
        raise NoSampleError(stacks.read_text(encoding="utf-8").strip().rpartition("\n")[2])


def _lines(answers: IO[bytes], child: int, grace: float) -> Iterator[bytes]:
    """What a child writes; it is killed when it says nothing for so many seconds, as in a call into
    C that its alarm cannot end."""
    limit = 240.0  # while it makes its sample
    rest = b""
    while True:
        ready, _, _ = select.select([answers], [], [], limit)
        limit = grace
        if not ready:
            os.kill(child, signal.SIGKILL)
        block = os.read(answers.fileno(), 1 << 16)
        if not block:
            return
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line + b"\n"


def _work(
    name: str, kind: Kind, seeds: Sequence[int], root: Path, template: Path, write: int,
    stacks: Path,
) -> None:  # fmt: skip
    """The child: make the sample if nobody did, then try every seed. Does not return."""
    code = 1
    try:
        with stacks.open("w", encoding="utf-8") as log:
            try:
                places = set_up(root / "scratch")
                hush()
                make_template(kind, template, places)
                faulthandler.enable(log, all_threads=False)
                limit_memory(kind.memory)
                for seed in seeds:
                    os.write(write, b"start\n")
                    outcome = try_one(kind, seed, name, template, places)
                    os.write(write, json.dumps(asdict(outcome)).encode() + b"\n")
                code = 0
            except Exception as error:
                import traceback

                log.write("".join(traceback.format_exception(error)))
    finally:
        os._exit(code)


def make_template(kind: Kind, template: Path, places: Places) -> None:
    """Make the sample at the path of the attacks, because some files hold their own path."""
    if template.is_dir():
        return
    clear(places)
    kind.build(places.sample)
    template.parent.mkdir(parents=True, exist_ok=True)
    places.sample.rename(template)


def limit_memory(more: int) -> None:
    """Bound the memory of this process to what it has and so many bytes more, and its files."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _death(status: int, stacks: Path) -> Outcome:
    """What a process died of, with the deepest line in pipeline/ where Python could still say."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number == signal.SIGKILL:
        return Outcome("hang", "a call that does not return, or killed for memory")
    name = signal.Signals(number).name if number else f"exit {os.WEXITSTATUS(status)}"
    lines = stacks.read_text(encoding="utf-8").splitlines()
    if not number and lines:
        return Outcome("fault", f"the attack itself: {lines[-1]}", " ".join(lines[-4:]))
    inside = [line.strip() for line in lines if "/pipeline/" in line]
    return Outcome("crash", f"{name} in {_short(inside[0]) if inside else 'a library'}")


def _short(line: str) -> str:
    return "pipeline/" + line.rpartition("/pipeline/")[2].replace('", line ', ":")
