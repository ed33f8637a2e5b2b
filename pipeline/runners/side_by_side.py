"""Different pieces of work side by side, each in a process of its own.

Small networks gain little from a second thread: two trainings with one thread each are 1.6 times as
fast as one after the other with two (benchmarks/side_by_side.py). A process is new for each piece
of work, so no training sees what another has left in libraries.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Generic, NamedTuple, TypeVar

from pipeline.errors import PipelineError
from pipeline.io.write import open_roots
from pipeline.runtime.progress import Event, Shown, is_quiet
from pipeline.runtime.threads import computing_threads, wait_passively

Result = TypeVar("Result")
_GONE = object()  # in place of an outcome
# A group of its own: Ctrl-C in a terminal goes to this process alone, which stops the others.
_APART: dict[str, Any] = (
    {"creationflags": 0x200} if sys.platform == "win32" else {"process_group": 0}
)
_GOING = 10.0  # seconds that a process has to end by itself
_SCRIPT = "import sys; sys.path[:] = {}; from pipeline.runners.one_work import serve; serve()"


class Done(NamedTuple, Generic[Result]):
    """name: of the work. result: what it returned."""

    name: str
    result: Result


def side_by_side(
    works: Mapping[str, Callable[[], Result]], at_once: int
) -> Generator[Done[Result], None, None]:
    """Yield what each work returns as it ends, by its name, which also stands before its bars and
    messages. Works begin in their order.

    works: picklable. at_once: processes, at least 1; each has its share of this process's threads.
    Where one work fails, the others are stopped and its error is raised. Raises PipelineError for a
    process that is killed. Close the generator to stop what is under way.
    """
    threads = max(computing_threads() // at_once, 1)
    waiting = list(works.items())
    events: SimpleQueue[tuple[_Process, object]] = SimpleQueue()
    running: list[_Process] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(_Process(*waiting.pop(0), threads, events))
            process, event = events.get()
            if isinstance(event, Event):
                process.shown.show(event)
                continue
            running.remove(process)
            yield Done(process.name, process.result(event))
    finally:
        for process in running:
            process.ask_to_end()
        for process in running:
            process.stop()


class _Process:
    """One process. What it sends goes to `events`: its progress, then what its work returned or
    raised, or `_GONE` where it ended without."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Any],
        threads: int,
        events: SimpleQueue[tuple[_Process, object]],
    ) -> None:
        self.name, self.shown = name, Shown(name)
        number = str(threads)
        environment = {
            **os.environ, "OMP_NUM_THREADS": number, "OPENCV_FOR_THREADS_NUM": number
        }  # fmt: skip
        wait_passively(environment)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT.format(sys.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
            **_APART,
        )  # fmt: skip
        with suppress(OSError):  # it has ended: its reader says so
            pickle.dump((Path.cwd(), open_roots(), is_quiet(), pickle.dumps(work)), self._stdin)
            self._stdin.flush()
        threading.Thread(target=self._read, args=(events,), daemon=True).start()

    def result(self, outcome: object) -> Any:
        """What the work returned. Raises what it raised. outcome: the last of its events."""
        self._end()
        if outcome is _GONE:
            raise PipelineError(
                f"{self.name}: its process was killed, perhaps because memory ran out; call again "
                "with --trainings-at-once 1"
            )
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def ask_to_end(self) -> None:
        """Let the work end, which keeps what a later call goes on from."""
        self._process.terminate()

    def stop(self) -> None:
        """Wait for the work to end, and end it where that takes too long."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GOING)
        self._process.kill()
        self._end()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin
        return self._process.stdin

    def _end(self) -> None:
        with suppress(OSError):
            self._stdin.close()
        self._process.wait()
        self.shown.close()

    def _read(self, events: SimpleQueue[tuple[_Process, object]]) -> None:
        """Pass on what the process sends, up to its end."""
        assert self._process.stdout
        with self._process.stdout as sent, suppress(EOFError, OSError, pickle.UnpicklingError):
            while isinstance(message := pickle.load(sent), Event):
                events.put((self, message))
            events.put((self, message))
            return
        events.put((self, _GONE))
