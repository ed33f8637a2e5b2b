"""SIGINT (Ctrl-C), SIGTERM and SIGHUP all end a command the same way: by an exception, so that
every block cleans up."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_FORCED_SIGNALS = 3  # so many signals also end the clean-up

_received: list[int] = []  # the signals so far, in the order they came
_over = False  # the command has its outcome: only the interpreter's own end is left
_depth = 0  # of `undivided` blocks that are open
_waiting = False  # a signal came within one


class Stopped(BaseException):
    """A signal asks the command to end. Not an Exception: nothing that goes on after errors may go
    on after this."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"signal {number}")


def install() -> None:
    """From now on a signal raises Stopped in the main thread; one that is ignored (nohup) stays
    ignored.

    Forked children (the loaders of torch) leave Ctrl-C and a hangup to their parent, which ends
    them.
    """
    global _over
    _received.clear()
    _over = False
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    sys.unraisablehook = _on_unraisable


def exit_code() -> int:
    """The exit code after a signal, as in the shell: 128 plus the number of the first signal; 0
    without one."""
    return 128 + _received[0] if _received else 0


def check() -> None:
    """Raise Stopped again where foreign code has swallowed it. Long work calls this now and then;
    what cleans up does not."""
    if _received and not _over:
        raise Stopped(_received[0])


def finish() -> None:
    """The command has its outcome: from now on a signal changes nothing, and a third ends the
    process at once."""
    global _over
    _over = True


@contextmanager
def undivided() -> Iterator[None]:
    """A signal that comes within the block takes effect at its end. For a few short steps that
    belong together; signals concern the main thread alone."""
    global _depth, _waiting
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _depth += 1
    due = False
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            due, _waiting = _waiting, False
    if due:
        check()


def _on_signal(number: int, frame: FrameType | None) -> None:
    """The first signal raises; a second one leaves the clean-up that is under way alone."""
    global _waiting
    del frame
    _received.append(number)
    if len(_received) >= _FORCED_SIGNALS and _over:
        os._exit(128 + number)
    if _over or 1 < len(_received) < _FORCED_SIGNALS:
        return
    if _depth and len(_received) == 1:
        _waiting = True
        return
    raise Stopped(number)


def _leave_to_parent() -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is _on_signal:
            ends = number == signal.SIGTERM
            signal.signal(number, signal.SIG_DFL if ends else signal.SIG_IGN)


def _on_unraisable(fault: sys.UnraisableHookArgs) -> None:
    """A destructor cannot raise: Stopped in one is passed over, and raised again by `check`."""
    if not isinstance(fault.exc_value, Stopped):
        sys.__unraisablehook__(fault)


def _ignore() -> None:
    """Python removes handlers before it unloads its modules, which takes long with torch. A signal
    in that time would change the exit code of a finished command."""
    for number in SIGNALS:
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_IGN)


atexit.register(_ignore)  # early, so that it is called last
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
