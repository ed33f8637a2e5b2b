"""What a signal does to the code that runs, step by step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pipeline.runtime import signals
from pipeline.runtime.signals import SIGNALS, Stopped


@pytest.fixture
def installed() -> Iterator[None]:
    """The handlers of a command, in this process for a while."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    hook = sys.unraisablehook
    signals.install()
    yield
    signals.install()  # forgets what was received
    for number, handler in before.items():
        signal.signal(number, handler)
    sys.unraisablehook = hook


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_what_no_except_exception_swallows(installed: None, number: int) -> None:
    with pytest.raises(Stopped):
        try:
            signal.raise_signal(number)
        except Exception:
            pytest.fail("swallowed")
    assert signals.exit_code() == 128 + number


def test_a_second_signal_leaves_the_clean_up_alone_and_a_third_does_not(installed: None) -> None:
    done = []
    with pytest.raises(Stopped):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGINT)
            done.append("cleaned")
            signal.raise_signal(signal.SIGINT)
            done.append("too much")
    assert done == ["cleaned"]
    assert signals.exit_code() == 143


def test_steps_that_belong_together_are_finished_first(installed: None) -> None:
    done = []
    with pytest.raises(Stopped), signals.undivided():
        with signals.undivided():
            signal.raise_signal(signal.SIGTERM)
        done.append("both")
    assert done == ["both"]


def test_an_error_in_such_steps_is_not_covered_and_nothing_is_raised_twice(installed: None) -> None:
    with pytest.raises(ValueError, match="mine"), signals.undivided():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("mine")
    with signals.undivided():
        pass


def test_what_a_destructor_swallows_is_raised_at_the_next_step(
    installed: None, capsys: pytest.CaptureFixture[str]
) -> None:
    class Closes:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    del [Closes()][0]
    assert capsys.readouterr().err == ""
    with pytest.raises(Stopped):
        signals.check()


def test_after_its_outcome_a_command_is_not_stopped_any_more(installed: None) -> None:
    signals.finish()
    signal.raise_signal(signal.SIGTERM)
    signals.check()


TEARDOWN = """
import os
from pipeline.runtime import signals
class Late:
    def __del__(self, kill=os.kill, process=os.getpid()):
        kill(process, 15)
late = Late()
signals.install()
signals.finish()
"""


def test_a_signal_while_the_interpreter_goes_down_does_not_undo_the_outcome() -> None:
    done = subprocess.run([sys.executable, "-c", TEARDOWN], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_forked_children_leave_the_keyboard_to_their_parent(installed: None) -> None:
    if not (child := os.fork()):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)  # its own end, at once and without a word
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
