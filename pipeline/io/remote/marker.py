"""`.upload.jsonl` in an uploaded folder: what a command of this pipeline wrote there.

It is written first, as begun, and last, with every file's name, size and sha256: this makes the
output whole. A folder that other tools wrote has none, and is read as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import DataError
from pipeline.io.remote.addresses import Place
from pipeline.io.remote.retry import retried
from pipeline.io.remote.stores import Store

MARKER = ".upload.jsonl"


@dataclass(frozen=True)
class UploadedFile:
    """A file of an upload. path: below the folder, posix. size: bytes. sha256: hex. time_ns: when
    the file was last changed, on the machine that wrote it."""

    path: str
    size: int
    sha256: str
    time_ns: int


@dataclass(frozen=True)
class Head:
    """The first line. command: that wrote the folder. call: hash of its settings and addresses."""

    state: Literal["begun", "whole"]
    command: str
    call: str


@dataclass(frozen=True)
class Marker:
    """The upload of a folder. anchor: key of the folder that holds the marker. files: by key."""

    anchor: str
    head: Head
    files: Mapping[str, UploadedFile] = field(default_factory=dict)

    def below(self, key: str) -> dict[str, UploadedFile]:
        """The files at a key and below it, by key."""
        prefix = f"{key}/"
        return {k: v for k, v in self.files.items() if k == key or k.startswith(prefix)}


_HEAD, _FILE = TypeAdapter(Head), TypeAdapter(UploadedFile)


def find_marker(place: Place) -> Marker | None:
    """The marker of a folder, or of the outermost one that holds it; None where there is none."""
    parts = place.key.split("/")
    first = len(parts) if place.store.is_web else 1  # a web server is not searched
    for count in range(first, len(parts) + 1):
        anchor = "/".join(parts[:count])
        if (found := _read(place, anchor)) is not None:
            return found
    return None


def write_marker(store: Store, marker: Marker) -> None:
    """Write a marker into its folder. Raises DataError."""
    lines = [asdict(marker.head), *(asdict(file) for _, file in sorted(marker.files.items()))]
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines)
    place = Place(store, f"{marker.anchor}/{MARKER}")
    retried(lambda: store.write(place.key, text.encode()), str(place), "written")


def refuse_torn(place: Place, marker: Marker) -> None:
    """Raise DataError for a folder whose upload was not finished."""
    if marker.head.state == "begun":
        where = Place(place.store, marker.anchor)
        reason = f"an upload of `pipeline {marker.head.command}` to it was not finished"
        remedy = "wait for that call, or repeat it: it goes on"
        raise DataError(str(where), reason, f"{remedy}; or remove the folder")


def _read(place: Place, anchor: str) -> Marker | None:
    store = place.store
    try:
        content = retried(lambda: store.read(f"{anchor}/{MARKER}"), str(place))
    except FileNotFoundError:
        return None
    except DataError as error:  # it may not be read: then neither may what it describes
        if isinstance(error.__cause__, PermissionError) or store.is_web:
            return None
        raise
    try:
        lines = content.decode().splitlines()
        head = _HEAD.validate_json(lines[0], strict=True)
        return Marker(anchor, head, dict(_files(anchor, lines[1:])))
    except (ValidationError, UnicodeDecodeError, IndexError):
        return None  # of another tool


def _files(anchor: str, lines: list[str]) -> Iterator[tuple[str, UploadedFile]]:
    for line in lines:
        file = _FILE.validate_json(line, strict=True)
        yield f"{anchor}/{file.path}", file
