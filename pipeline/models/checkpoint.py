"""Checkpoints of a training. A stopped training continues from its checkpoint and, on a CPU, ends
with the same weights as one that was not stopped. The random state of a GPU is not saved.

A damaged file or a full disk costs time, but does not end the training.
"""

from __future__ import annotations

import copy
import hashlib
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict, cast

import torch
from pydantic import NonNegativeInt, TypeAdapter

from pipeline.errors import DataError
from pipeline.io.read import open_regular
from pipeline.io.write import whole_file
from pipeline.models.processes import of_first, rank
from pipeline.runtime.progress import say

_SECONDS = 20.0  # between two writes
_DIGEST = hashlib.sha256().digest_size
_PROGRESS = TypeAdapter(tuple[NonNegativeInt, list[list[float]]])


class Stateful(Protocol):
    """A module, an optimizer or a learning-rate schedule."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any, /) -> Any: ...


class _State(TypedDict):
    """All that a step changes. parts: what torch gives for each, by name. generator, random: random
    states."""

    parts: dict[str, Any]  # torch's `state_dict` is of no one type
    generator: torch.Tensor
    random: torch.Tensor


class TrainingCheckpoint:
    """The checkpoint file of one training. The caller deletes it when the result is written.
    Without a path nothing is written. Of several processes, the first one reads and writes it."""

    def __init__(self, path: Path | None, generator: torch.Generator, **parts: Stateful) -> None:
        """parts: everything that a step changes, except `generator` and torch's global random
        state, which are always saved."""
        self._path, self._parts, self._generator = path, parts, generator
        self._written = time.monotonic()
        self._refused = False

    def restore(self) -> tuple[int, list[list[float]]]:
        """Set the parts to their saved state. Returns the number of finished steps and their
        history: 0 and [] if there is no file or it is damaged."""
        state = of_first(self._read)
        if state is None:
            return 0, []
        before = copy.deepcopy(self._state())
        try:
            done, history = _PROGRESS.validate_python((state["done"], state["history"]))
            self._set(cast(_State, state))
        except Exception:  # torch raises many types for a damaged file
            self._set(before)
            self._say_damaged()
            return 0, []
        return done, history

    def save(self, done: int, of: int, history: Sequence[Sequence[float]] = ()) -> None:
        """Save the state after step `done` of `of`: after the last step, and if the last save was
        20 seconds ago or more. history: a row of figures for each step or epoch."""
        if self._path is None or rank():
            return
        if done >= of or time.monotonic() - self._written >= _SECONDS:
            rows = [list(row) for row in history]
            try:
                write_checkpoint(self._path, {**self._state(), "done": done, "history": rows})
            except DataError as error:
                if not self._refused:
                    say(f"{self._path}: the checkpoint cannot be written ({error.reason})")
                self._refused = True
            self._written = time.monotonic()

    def _read(self) -> Mapping[str, Any] | None:
        """What the file holds; None if there is no file or it is damaged."""
        if self._path is None or not self._path.is_file():
            return None
        try:
            return read_checkpoint(self._path)
        except Exception:  # torch raises many types for a damaged file
            self._say_damaged()
            return None

    def _say_damaged(self) -> None:
        say(f"{self._path}: is damaged; the training begins from the start")

    def _state(self) -> _State:
        return {
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
            "generator": self._generator.get_state(),
            "random": torch.get_rng_state(),
        }

    def _set(self, state: _State) -> None:
        for name, part in self._parts.items():
            part.load_state_dict(state["parts"][name])
        self._generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])


def write_checkpoint(path: Path, state: Mapping[str, object]) -> None:
    """Write tensors and plain values after their sha256, as a whole file or not at all. The bytes
    are made in memory first, because torch does not raise OSError for a full disk. Raises DataError
    when the system refuses."""
    stream = io.BytesIO()
    torch.save(dict(state), stream)
    body = stream.getbuffer()
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(hashlib.sha256(body).digest())
        file.write(body)


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Read a file of `write_checkpoint`; tensors are on the CPU. Raises ValueError for a wrong
    sha256, DataError as `open_regular`, and any exception of torch for other content."""
    with open_regular(path) as file:
        digest, body = file.read(_DIGEST), file.read()
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("its sha256 is another")
    state: Mapping[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    return state
