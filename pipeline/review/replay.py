"""The stacks of undo and redo: a function of the actions so far, so that they outlast a restart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

UNDO, REDO = "undo", "redo"


@dataclass
class Stacks:
    """done: the actions that an undo takes back, the last one first to go. undone: those that a
    redo does again."""

    done: list[int] = field(default_factory=list)
    undone: list[int] = field(default_factory=list)

    def add(self, action: int, kind: str) -> None:
        """Follow an action that was written. An undo or a redo is of the last one on its stack."""
        if kind == UNDO:
            self.undone.append(self.done.pop())
        elif kind == REDO:
            self.done.append(self.undone.pop())
        else:
            self.done.append(action)
            self.undone.clear()


def stacks_of(rows: Iterable[tuple[int, str]]) -> Stacks:
    """The stacks after actions (id, kind), in their order. Raises IndexError for an undo or a redo
    of nothing, which only a damaged file has."""
    stacks = Stacks()
    for action, kind in rows:
        stacks.add(action, kind)
    return stacks
