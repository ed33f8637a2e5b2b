"""`pipeline learn` beside the page: a process of its own, which the server starts and watches."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from pipeline.io.write import make_folder
from pipeline.review.generations import LEARNED, Generation, offered, propose_labels
from pipeline.review.proposing import ProposedLabels
from pipeline.review.store import ReviewStore

LOG = "learn.log"  # in the folder of all generations: what the last process wrote
_TAIL = 4000  # bytes of it that are read
_PAUSE = 3.0  # seconds between two searches for new labels
_LAST_S = 20.0  # for a process that is stopped
State = Literal["off", "idle", "running", "offered", "failed"]


@dataclass(frozen=True)
class Learning:
    """line: of the progress, or of how it ended. generation: whose labels are offered, else 0."""

    state: State
    line: str = ""
    generation: int = 0


class Learner:
    """Starts one process at a time, and knows what it has made."""

    def __init__(self, store: ReviewStore, run: Path, words: Sequence[str] = ()) -> None:
        """run: the folder of the run that learns. words: more arguments of `pipeline learn`."""
        self._store, self._run, self._words = store, run, tuple(words)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._offered: Generation | None = None
        self._searched_at = float("-inf")

    def status(self) -> Learning:
        """What the page shows."""
        with self._lock:
            code = self._process.poll() if self._process else None
            if self._process and code is None:
                return Learning("running", self._line() or "starts")
            if new := self._search():
                return Learning("offered", "", new.number)
            if self._process is None:
                return Learning("idle")
            return Learning("failed" if code else "idle", self._line(last=True))

    def start(self) -> None:
        """Begin to learn. Raises ValueError where that is under way."""
        with self._lock:
            if self._process and self._process.poll() is None:
                raise ValueError("the models are learning already")
            make_folder(self._run / LEARNED)
            command = [sys.executable, "-m", "pipeline", "learn", str(self._run), *self._words]
            with (self._run / LEARNED / LOG).open("wb") as log:
                self._process = _started(command, log)
            self._searched_at = float("-inf")

    def take(self) -> ProposedLabels:
        """Let the new labels enter the review. Raises ValueError without any."""
        with self._lock:
            self._searched_at = float("-inf")
            generation = self._search()
            if generation is None:
                raise ValueError("there are no new labels")
            made = propose_labels(self._store, generation)
            self._offered, self._process = None, None
            return made

    def close(self) -> None:
        """Stop the process; `pipeline learn` goes on from there."""
        with self._lock:
            if self._process and self._process.poll() is None:
                self._process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_LAST_S)

    def _search(self) -> Generation | None:
        """The generation whose labels the review has not yet. Another process may have made it."""
        if time.monotonic() - self._searched_at >= _PAUSE:
            self._offered = offered(self._run, self._store)
            self._searched_at = time.monotonic()
        return self._offered

    def _line(self, last: bool = False) -> str:
        """The step and what it says of itself; `last`: the last line alone."""
        with suppress(OSError), (self._run / LEARNED / LOG).open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(size - _TAIL, 0))
            lines = [each for each in log.read().decode("utf-8", "replace").splitlines() if each]
            if not lines:
                return ""
            steps = [each for each in lines if each.startswith("[")]
            own = lines[-1].removeprefix("pipeline: ")
            step = steps[-1] if steps and not last else own
            return own if step == own else f"{step} {own}"
        return ""


def _started(command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process of its own session: Ctrl-C in the terminal is for the server, which ends it."""
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
        start_new_session=True,
    )  # fmt: skip
