"""What the runners share: types, and the work on one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

Runner = Literal["local", "ray"]
Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Item], Result]

BATCH = 16  # items that a process takes at once


def work_on(work: Work[Item, Result], items: Sequence[Item]) -> list[Result]:
    """The results of one batch."""
    return [work(item) for item in items]
