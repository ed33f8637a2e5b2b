"""What a call has changed in a local copy and not uploaded yet: a note for each place, beside the
copies. It outlives the process, so that no change is lost."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import DataError
from pipeline.io.read import read_bytes
from pipeline.io.remote.addresses import Place
from pipeline.io.run_record import Summary
from pipeline.io.write import write_json


@dataclass(frozen=True)
class Unsent:
    """key: of the place. is_done: the command ended, and only the upload is left. inputs:
    fingerprint of what it read. summary: its result as JSON, None for another result."""

    key: str
    command: str
    call: str
    is_done: bool = False
    inputs: str = ""
    summary: Summary | None = None


_UNSENT = TypeAdapter(Unsent)


def note_unsent(place: Place, note: Unsent) -> None:
    """Write the note of a place. Raises DataError."""
    write_json(_path(place), asdict(note))


def forget_unsent(place: Place) -> None:
    """Remove the note of a place: all is uploaded."""
    _path(place).unlink(missing_ok=True)


def unsent_at(place: Place) -> Unsent | None:
    """The note of a place itself."""
    return _read(_path(place))


def has_unsent(place: Place, command: str, targets: Collection[str]) -> bool:
    """Whether an earlier call of this command changed the copy of a place or of a part, and did not
    upload that. targets: keys of what this call writes. Raises DataError where another call did: to
    fetch the place would lose its changes."""
    found = False
    for note in _notes(place):
        inner, outer = sorted((note.key, place.key), key=len, reverse=True)
        if f"{inner}/".startswith(f"{outer}/"):
            if note.command != command or note.key not in targets:
                raise unsent_error(Place(place.store, note.key), note)
            found = True
    return found


def unsent_error(place: Place, note: Unsent) -> DataError:
    """The error about changes that were not uploaded."""
    reason = f"what `pipeline {note.command}` wrote for it here was not uploaded to the end"
    return DataError(str(place), reason, "repeat that call: it goes on")


def _path(place: Place) -> Path:
    name = hashlib.sha256(place.key.encode()).hexdigest()[:16]
    return place.store.tree / ".unsent" / f"{name}.json"


def _notes(place: Place) -> Iterator[Unsent]:
    for path in sorted(_path(place).parent.glob("*.json")):
        if note := _read(path):
            yield note


def _read(path: Path) -> Unsent | None:
    try:
        return _UNSENT.validate_json(read_bytes(path))
    except (DataError, ValidationError):
        return None
