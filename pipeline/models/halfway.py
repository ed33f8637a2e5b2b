"""Where a training stands, on disk now and then: one that was stopped goes on from there, and on a
CPU ends as one that never was. A GPU's own chance is not kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from pipeline.io.write import whole_file

_SECONDS = 20.0  # between two writes


class Stateful(Protocol):
    """A module, an optimiser, a schedule."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any, /) -> Any: ...


class Halfway:
    """A training's file, for its caller to delete once the result is kept; without a path nothing
    is written."""

    def __init__(self, path: Path | None, generator: torch.Generator, **parts: Stateful) -> None:
        """parts: all that a step changes, beside `generator` and torch's own chance."""
        self._path, self._parts, self._generator = path, parts, generator
        self._written = time.monotonic()

    def found(self) -> tuple[int, list[list[float]]]:
        """How many steps are done, and their history; the parts are as they were then."""
        if self._path is None or not self._path.is_file():
            return 0, []
        kept = torch.load(self._path, map_location="cpu", weights_only=True)
        for name, part in self._parts.items():
            part.load_state_dict(kept["parts"][name])
        self._generator.set_state(kept["generator"])
        torch.set_rng_state(kept["chance"])
        return int(kept["done"]), kept["history"]

    def reached(self, done: int, of: int, history: Sequence[Sequence[float]] = ()) -> None:
        """Keep where it stands after so many steps, the last or a while after the last time."""
        if self._path is None:
            return
        if done >= of or time.monotonic() - self._written >= _SECONDS:
            kept = {
                "parts": {name: part.state_dict() for name, part in self._parts.items()},
                "generator": self._generator.get_state(),
                "chance": torch.get_rng_state(),
                "done": done,
                "history": [list(row) for row in history],
            }
            with whole_file(self._path) as temporary:
                torch.save(kept, temporary)
            self._written = time.monotonic()
