"""Bars, plain lines and messages; a pretended clock ticks, nothing waits."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest

from pipeline.runtime import progress
from pipeline.runtime.progress import Bar, clear_bars, say, set_quiet, track


class Screen(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def watch(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None) -> None:
    """Let the module see `stream` as stderr; the real one belongs to pytest."""
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    set_quiet(False)
    monkeypatch.setattr(progress, "_last_line", float("-inf"))
    monkeypatch.setattr(progress, "_open", [])
    return Clock()


@pytest.fixture
def log(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    watch(monkeypatch, stream)
    return stream


@pytest.fixture
def screen(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Screen:
    stream = Screen()
    watch(monkeypatch, stream)
    return stream


def shown(screen: Screen) -> list[str]:
    """What a terminal shows in the end."""
    lines: list[list[str]] = [[]]
    row = column = 0
    for token in re.findall(r"\x1b\[A|.|\n|\r", screen.getvalue()):
        if token == "\x1b[A":
            row -= 1
        elif token in "\r\n":
            row, column = row + (token == "\n"), 0
            lines += [[]] * (row + 1 - len(lines))
        else:
            line = lines[row] + [" "] * (column - len(lines[row]))
            lines[row] = [*line[:column], token, *line[column + 1 :]]
            column += 1
    return ["".join(line).rstrip() for line in lines]


def test_away_from_a_terminal_a_plain_line_says_how_far_the_work_is(
    log: io.StringIO, clock: Clock
) -> None:
    bar = Bar("convert", 5000, clock=clock)
    clock.now += 60
    bar.update(1200)
    bar.close()
    assert log.getvalue() == "convert: 1200 of 5000, about 3 min left\n"


def test_a_plain_line_comes_every_30_seconds_at_most(log: io.StringIO, clock: Clock) -> None:
    bar = Bar("convert", 100, clock=clock)
    for _ in range(100):
        clock.now += 1
        bar.update()
    counts = [int(number) for number in re.findall(r"(\d+) of 100", log.getvalue())]
    assert counts == [30, 60, 90]


def test_bars_in_turn_share_the_30_seconds(log: io.StringIO, clock: Clock) -> None:
    outer = Bar("outer", 10, clock=clock)
    for _ in range(4):
        inner = Bar("inner", 10, clock=clock)
        clock.now += 20
        inner.update()
        inner.close()
        outer.update()
    assert log.getvalue().splitlines() == [
        "outer: 2 of 10, about 3 min left",
        "outer: 4 of 10, about 2 min left",
    ]


def test_short_work_writes_nothing_away_from_a_terminal(log: io.StringIO) -> None:
    assert list(track(range(100), "convert")) == list(range(100))
    assert log.getvalue() == ""


def test_what_was_done_before_does_not_make_the_rest_look_quick(
    log: io.StringIO, clock: Clock
) -> None:
    bar = Bar("fine-tune", 100, initial=90, clock=clock)
    clock.now += 50
    bar.note("loss 2.00")
    bar.update(5)
    assert log.getvalue() == "fine-tune: 95 of 100, about 50 s left (loss 2.00)\n"


def test_without_a_total_the_line_says_what_is_done(log: io.StringIO, clock: Clock) -> None:
    bar = Bar("read", clock=clock)
    clock.now += 30
    bar.update(7)
    assert log.getvalue() == "read: 7 so far\n"


def test_quiet_work_writes_nothing(
    log: io.StringIO, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_quiet(True)
    bar = Bar("convert", 10, clock=clock)
    clock.now += 100
    bar.update()
    say("a notice")
    monkeypatch.setattr(log, "isatty", lambda: True)
    assert list(track(range(3), "convert")) == [0, 1, 2]
    assert log.getvalue() == ""


def test_on_a_terminal_a_finished_bar_stays_on_its_own_line(screen: Screen) -> None:
    assert list(track(range(3), "convert")) == [0, 1, 2]
    say("next")
    first, *others = shown(screen)
    assert "convert" in first
    assert "3/3" in first
    assert others == ["next", ""]


def test_a_message_is_alone_on_its_line_and_the_bar_goes_on_below(screen: Screen) -> None:
    bar = Bar("convert", 10)
    bar.update()
    say("a notice")
    assert shown(screen)[0] == "a notice"
    assert "convert" in shown(screen)[1]
    bar.close(finished=False)
    assert shown(screen) == ["a notice", ""]


def test_bars_of_work_that_was_broken_off_are_gone_before_the_message(screen: Screen) -> None:
    items = track(range(10), "outer", 10)
    next(items)
    inner = track(range(5), "inner")
    next(inner)
    clear_bars()
    say("it is broken")
    assert "it is broken" in shown(screen)
    assert not any("outer" in line or "inner" in line for line in shown(screen))


def test_an_error_takes_the_bar_off_the_screen(screen: Screen) -> None:
    with pytest.raises(ValueError, match="bad"), Bar("convert", 10) as bar:
        bar.update()
        raise ValueError("bad")
    assert shown(screen) == [""]


def test_a_terminal_that_is_gone_is_no_error(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Screen):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    watch(monkeypatch, Gone())
    assert list(track(range(3), "convert")) == [0, 1, 2]
    say("nobody reads it")
    watch(monkeypatch, None)
    say("nor this")


def test_no_notice_lands_on_stdout_where_there_is_no_stderr(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(monkeypatch, None)
    say("a notice")
    assert capsys.readouterr().out == ""
