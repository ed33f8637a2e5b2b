"""One kind of progress bar for all long work: on stderr, and none with `--quiet`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Silence (or allow) bars and notices for the whole process."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Whether bars and notices are silenced."""
    return _quiet


def say(text: str) -> None:
    """Print a notice on stderr, so that stdout stays the command's result."""
    if not _quiet:
        print(text, file=sys.stderr, flush=True)


def track(items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items` under a bar with the time that is left.

    Away from a terminal (a log file, CI) the bar is redrawn every ten seconds at most.
    """
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 10.0
    yield from tqdm(
        items, desc=title, total=total, disable=_quiet, mininterval=interval, file=sys.stderr
    )
