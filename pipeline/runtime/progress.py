"""The progress of long work on stderr: a bar on a terminal, else a plain line now and then.

With `--quiet` there is none. No message shares a line with a bar. A process that works beside
another gives its bars and messages to that one, which shows them.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Never, Self, TypeVar

from pipeline.errors import with_addresses
from pipeline.runtime import signals

if TYPE_CHECKING:
    from tqdm import tqdm

Item = TypeVar("Item")

_PAUSE = 30.0  # seconds between two plain lines, and before the first
_PAUSE_OF_EVENTS = 0.2  # seconds between two movements of a bar that another process shows

_quiet = False
_open: list[Bar] = []  # from the outermost to the innermost
_lock = threading.RLock()  # of stderr: tqdm draws under it too
_last_line = float("-inf")  # when the last plain line of any bar was printed
_numbers = count()


@dataclass(frozen=True)
class Event:
    """What another process shows: a message, or what happened to a bar. number: of the bar. text:
    the message, the title of a new bar, or the note of one that moved. count: where a bar is.
    finished: whether a bar that ended stays on screen."""

    kind: Literal["message", "begin", "move", "end"]
    number: int = 0
    text: str = ""
    count: int = 0
    total: int | None = None
    finished: bool = True


_send: Callable[[Event], None] | None = None  # to the process that shows


def show_elsewhere(send: Callable[[Event], None]) -> None:
    """From now on, give all bars and messages of this process to `send`."""
    global _send
    _send = send


class Shown:
    """The bars and messages of another process, each with a name before it where it has one."""

    def __init__(self, name: str = "") -> None:
        self._before = f"{name}: " if name else ""
        self._bars: dict[int, Bar] = {}

    def show(self, event: Event) -> None:
        """Show what the other process has sent."""
        if event.kind == "message":
            write_line(self._before + event.text)
        elif event.kind == "begin":
            self._bars[event.number] = Bar(self._before + event.text, event.total, event.count)
        elif event.kind == "move":
            self._bars[event.number].note(event.text)
            self._bars[event.number].move(event.count)
        else:
            self._bars.pop(event.number).close(event.finished)

    def close(self) -> None:
        """Remove the bars of a process that was stopped."""
        for bar in reversed(self._bars.values()):
            bar.close(finished=False)
        self._bars.clear()


def set_quiet(quiet: bool) -> None:
    """Silence (or allow) bars and notices for the whole process."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Whether bars and notices are silenced."""
    return _quiet


@contextmanager
def silence() -> Iterator[None]:
    """No bars and notices within the block."""
    before = _quiet
    set_quiet(True)
    try:
        yield
    finally:
        set_quiet(before)


def say(text: str) -> None:
    """Print a notice on stderr, so that stdout stays the command's result."""
    if not _quiet:
        write_line(text)


def write_line(text: str) -> None:
    """Print a line on stderr, also with `--quiet`. Bars are hidden while it is printed.

    A stderr that is gone (a closed terminal) is not an error.
    """
    if _send:
        _send(Event("message", text=text))
        return
    with _lock, suppress(OSError, ValueError):
        for bar in _open:
            bar.hide()
        if sys.stderr is not None:  # print would take stdout for it
            print(with_addresses(text), file=sys.stderr, flush=True)
        for bar in _open:
            bar.show()


def clear_bars() -> None:
    """Close every open bar and remove it from the screen, because its work was stopped."""
    for bar in reversed(_open.copy()):
        bar.close(finished=False)


def track(items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items` under a bar with the time that is left."""
    if total is None:
        with suppress(TypeError):
            total = len(items)  # type: ignore[arg-type]
    with Bar(title, total) as bar:
        for item in items:
            yield item
            bar.update()


class Bar:
    """The progress of one piece of work. Closing it at the end leaves the full bar on screen."""

    def __init__(
        self,
        title: str,
        total: int | None = None,
        initial: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._total, self._clock = title, total, clock
        self._initial = self._count = initial
        self._began, self._note = clock(), ""
        self._number, self._sent = next(_numbers), self._began
        self._send = None if _quiet else _send
        self._tqdm = self._draw() if not _quiet and not _send and is_terminal() else None
        _open.append(self)
        if self._send:
            self._send(Event("begin", self._number, title, initial, total))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(finished=kind is None)

    def update(self, n: int = 1) -> None:
        """`n` more are done. Raises Stopped where a signal was swallowed."""
        signals.check()
        self._count += n
        if self._tqdm is not None:
            self._tqdm.update(n)
        elif self._send:
            self._send_now_and_then(self._send)
        elif not _quiet:
            self._write_now_and_then()

    def move(self, count: int) -> None:
        """So many are done in all."""
        self.update(count - self._count)

    def note(self, text: str) -> None:
        """What to show beside the count, from the next update on."""
        self._note = text
        if self._tqdm is not None:
            self._tqdm.set_postfix_str(text, refresh=False)

    def close(self, finished: bool = True) -> None:
        """End the bar; one that is not finished disappears. A second call does nothing."""
        if self not in _open:
            return
        _open.remove(self)
        if self._send:
            self._send(Event("move", self._number, self._note, self._count))
            self._send(Event("end", self._number, finished=finished))
        if self._tqdm is not None:
            self._tqdm.leave = None if finished else False  # None: stays if it is the outermost
            with suppress(OSError, ValueError):
                self._tqdm.close()

    def hide(self) -> None:
        """Take the bar off the screen for a moment."""
        if self._tqdm is not None:
            self._tqdm.clear()

    def show(self) -> None:
        """Draw the bar again."""
        if self._tqdm is not None:
            self._tqdm.refresh()

    def _draw(self) -> tqdm[Never]:
        from tqdm import tqdm

        tqdm.set_lock(_lock)
        return tqdm(
            desc=self._title,
            total=self._total,
            initial=self._initial,
            mininterval=0.1,
            leave=None,
            file=sys.stderr,
        )

    def _send_now_and_then(self, send: Callable[[Event], None]) -> None:
        now = self._clock()
        if now - self._sent >= _PAUSE_OF_EVENTS:
            self._sent = now
            send(Event("move", self._number, self._note, self._count))

    def _write_now_and_then(self) -> None:
        global _last_line
        now = self._clock()
        if now - max(self._began, _last_line) >= _PAUSE:
            _last_line = now
            write_line(self._line(now))

    def _line(self, now: float) -> str:
        note = f" ({self._note})" if self._note else ""
        if self._total is None:
            return f"{self._title}: {self._count} so far{note}"
        here = self._count - self._initial
        left = (self._total - self._count) * (now - self._began) / max(here, 1)
        return f"{self._title}: {self._count} of {self._total}, about {_span(left)} left{note}"


def is_terminal() -> bool:
    """Whether stderr is a terminal."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it is closed
        return False


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.0f} h"
