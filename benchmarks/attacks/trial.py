"""One attack: a changed sample goes through a command, and the canaries say what it did."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Literal

import click

from .canaries import Inventory
from .mutations import copy_sample, mutate
from .samples import Kind, picks
from .values import Places

TRACE = "ATTACK_TRACE"  # in the environment: faults come with their whole traceback
Verdict = Literal["refused", "accepted", "fault", "hang", "crash"]


class Hang(BaseException):
    """The time for one input is over."""


@dataclass(frozen=True)
class Outcome:
    """verdict: how the command ended. where: of a fault its type and the deepest place in
    pipeline/. detail: its message. escape: what changed outside the output or leaked into it, or
    is empty. ran: whether planted code was run. change: what was done to the file."""

    verdict: Verdict
    where: str = ""
    detail: str = ""
    escape: str = ""
    ran: bool = False
    change: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether the attack got through."""
        return self.verdict not in ("refused", "accepted") or bool(self.escape) or self.ran

    def facts(self) -> dict[str, object]:
        """What there is to say."""
        return {name: value for name, value in self.__dict__.items() if value}


def try_one(kind: Kind, seed: int, name: str, template: Path, places: Places) -> Outcome:
    """Make the input of a seed, run it, judge it, and leave its files for whoever asks. A negative
    seed leaves the sample as it is, to see that it is valid."""
    random = Random(f"{name} {seed}")
    clear(places)
    copy_sample(template, places.sample)
    files = picks(kind, places.sample)
    changes = []
    for _ in range(0 if seed < 0 else min(random.choice([1, 1, 1, 1, 2]), len(files))):
        changes.append(mutate(files.pop(random.randrange(len(files))), random, places))
    _hand_over(places)
    chosen = random.choice(list(kind.runs))
    outcome = judged(lambda: chosen(random, places), places, kind.seconds)
    return replace(outcome, change=", ".join(changes))


def _hand_over(places: Places) -> None:
    """What a sample holds of earlier results goes where the command will find it."""
    state = places.sample / "state"
    if state.is_dir():
        places.results.rmdir()
        state.rename(places.results)


def clear(places: Places) -> None:
    """Take away what the attack before left."""
    for folder in (places.sample, places.results, places.cwd):
        shutil.rmtree(folder, ignore_errors=True)
    places.marker.unlink(missing_ok=True)
    places.results.mkdir()
    places.cwd.mkdir()
    os.chdir(places.cwd)


def judged(run: Callable[[], Any], places: Places, seconds: int = 20) -> Outcome:
    """Run a command between two inventories of all that it must not touch."""
    before = Inventory.of(places)
    verdict, where, detail = _ended(run, seconds)
    return Outcome(verdict, where, detail, before.escape(places), places.marker.exists())


def _ended(run: Callable[[], Any], seconds: int) -> tuple[Verdict, str, str]:
    """How a command ends, as `pipeline.cli.main` would tell it."""
    from pipeline.errors import PipelineError

    try:
        with _alarm(seconds):
            code = run()
    except (PipelineError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        return _message(message, error)
    except Hang as error:
        return "hang", _place(error), f"longer than {seconds} s"
    except SystemExit as error:
        code = error.code
    except Exception as error:  # whatever it is, it is what is searched for
        detail = (
            traceback.format_exc() if TRACE in os.environ else " ".join(str(error).split())[:200]
        )
        return "fault", _place(error), detail
    if code not in (None, 0, 1, 2):
        return ("accepted", "", "") if not isinstance(code, int) else ("fault", f"exit {code}", "")
    return "accepted", "", ""


def _message(message: str, error: Exception) -> tuple[Verdict, str, str]:
    """A refusal is one line of sensible length that names something."""
    if not message.strip():
        return "fault", f"no message, {_place(error)}", ""
    if len(message) > 2000:
        return "fault", f"message of over 2000 characters, {_place(error)}", message[:100]
    return "refused", "", message


@contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    def ring(_: int, __: FrameType | None) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _place(error: BaseException) -> str:
    """Type of an error, and the deepest line in pipeline/ that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if f"{os.sep}pipeline{os.sep}" in frame.filename]
    if not inside:
        return f"{type(error).__name__} in {frames[-1].filename if frames else '?'}"
    last = inside[-1]
    short = last.filename.rpartition(f"{os.sep}pipeline{os.sep}")[2]
    return f"{type(error).__name__} in pipeline/{short}:{last.lineno} {last.name}"


def hush() -> None:
    """Throw away what commands print, but as strictly as a terminal of UTF-8 takes it, and let
    them ask only once what no input changes: versions and the commit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)  # decoders in C write there too
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", closefd=False
    )
    import cv2

    from pipeline.io import run_record
    from pipeline.runtime.progress import set_quiet

    cv2.setNumThreads(1)
    set_quiet(True)
    for name in ("_versions", "_git_commit"):
        if function := getattr(run_record, name, None):
            setattr(run_record, name, cache(function))
