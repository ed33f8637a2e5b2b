"""Where a training stands, on disk now and then: one that was stopped goes on from there, and on a
CPU ends as one that never was. A GPU's own chance is not kept.

A file that is damaged, or a disk that is full, costs time and no training.
"""

from __future__ import annotations

import copy
import hashlib
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import NonNegativeInt, TypeAdapter

from pipeline.errors import DataError
from pipeline.io.read import open_regular
from pipeline.io.write import whole_file
from pipeline.runtime.progress import say

_SECONDS = 20.0  # between two writes
_DIGEST = hashlib.sha256().digest_size
_REACHED = TypeAdapter(tuple[NonNegativeInt, list[list[float]]])


class Stateful(Protocol):
    """A module, an optimiser, a schedule."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any, /) -> Any: ...


class TrainingCheckpoint:
    """A training's file, for its caller to delete once the result is kept; without a path nothing
    is written."""

    def __init__(self, path: Path | None, generator: torch.Generator, **parts: Stateful) -> None:
        """parts: all that a step changes, beside `generator` and torch's own chance."""
        self._path, self._parts, self._generator = path, parts, generator
        self._written = time.monotonic()
        self._refused = False

    def restore(self) -> tuple[int, list[list[float]]]:
        """How many steps are done, and their history; the parts are as they were then. A file that
        is not as it was written counts as none."""
        if self._path is None or not self._path.is_file():
            return 0, []
        before = copy.deepcopy(self._state())
        try:
            kept = read_checkpoint(self._path)
            done, history = _REACHED.validate_python((kept["done"], kept["history"]))
            self._set(kept)
        except Exception:  # whatever torch makes of a damaged file
            self._set(before)
            say(f"{self._path}: is damaged; the training begins from the start")
            return 0, []
        return done, history

    def save(self, done: int, of: int, history: Sequence[Sequence[float]] = ()) -> None:
        """Keep where it stands after so many steps, the last or a while after the last time."""
        if self._path is None:
            return
        if done >= of or time.monotonic() - self._written >= _SECONDS:
            rows = [list(row) for row in history]
            try:
                write_checkpoint(self._path, {**self._state(), "done": done, "history": rows})
            except DataError as error:
                if not self._refused:
                    say(f"{self._path}: where the training stands cannot be kept ({error.reason})")
                self._refused = True
            self._written = time.monotonic()

    def _state(self) -> dict[str, Any]:
        return {
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
            "generator": self._generator.get_state(),
            "chance": torch.get_rng_state(),
        }

    def _set(self, state: dict[str, Any]) -> None:
        for name, part in self._parts.items():
            part.load_state_dict(state["parts"][name])
        self._generator.set_state(state["generator"])
        torch.set_rng_state(state["chance"])


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values behind their sha256, whole or not at all; through memory, for
    torch's own word for a full disk is another. Raises DataError when the system refuses."""
    stream = io.BytesIO()
    torch.save(state, stream)
    body = stream.getbuffer()
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(hashlib.sha256(body).digest())
        file.write(body)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `write_checkpoint` wrote, on the CPU. Raises ValueError for bytes that it did not write,
    DataError as `open_regular`, and what torch makes of strange content."""
    with open_regular(path) as file:
        digest, body = file.read(_DIGEST), file.read()
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("its sha256 is another")
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    return state
