"""`manifest.jsonl` lists every file that a run wrote, with size and sha256.

A folder is replaced only if it holds exactly these files, so that a user's own file is never lost.
Contents count, not times. A hard link (a photo) is listed without a hash: removing one of several
names loses nothing, and reading every photo takes longer than a conversion.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue, TypeAdapter, ValidationError

from pipeline.errors import DataError
from pipeline.io.read import RUN_FILE, read_json, read_text, sha256_of
from pipeline.io.write import json_text, whole_file, write_json

MANIFEST = "manifest.jsonl"
WORK = ".work"  # in an unfinished folder: the work log and checkpoints of a stopped run
_LIST_SHA256, _RUN_SHA256 = "manifest_sha256", "sha256"  # keys of run.json: of the list, the rest
_CHANGED = "was changed after the run that wrote its folder"
_NESTED_COMMANDS = frozenset({"evaluate"})  # their folder may lie in another, and goes with it
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".directory"})  # file managers' own


@dataclass(frozen=True)
class _Entry:
    """A line of the manifest. path: below its folder, posix. size: bytes. sha256: hex; None for a
    file with several names, which is not read."""

    path: str
    size: int
    sha256: str | None = None

    def line(self) -> str:
        """The entry as JSON."""
        content: dict[str, str | int] = {"path": self.path, "size": self.size}
        if self.sha256 is not None:
            content["sha256"] = self.sha256
        return json.dumps(content, sort_keys=True) + "\n"


_ENTRY = TypeAdapter(_Entry)


def write_manifest(folder: Path, run: Mapping[str, JsonValue]) -> None:
    """List every file below `folder`, then write `run` as its run.json, with the sha256 of the list
    and of itself: the list of the same files has the same bytes, whenever they were written.

    Raises DataError when the system refuses.
    """
    with whole_file(folder / MANIFEST) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for name in _files(folder):
            if name not in (RUN_FILE, MANIFEST, temporary.name):
                lines.write(_entry(folder, name).line())
    listed = {**run, _LIST_SHA256: sha256_of(folder / MANIFEST)}
    write_json(folder / RUN_FILE, {**listed, _RUN_SHA256: _digest(listed)})


def refuse_changed(folder: Path) -> None:
    """Raise DataError for a file that the run of `folder` did not write, or that was changed later,
    or that is the last copy of a linked photo. Missing files are allowed."""
    entries = _read(folder)
    _refuse_changed_run(folder)
    linked: list[tuple[str, tuple[int, int]]] = []
    names: Counter[tuple[int, int]] = Counter()
    for name in _files(folder, inside_too=True):
        path = folder / name
        if name in (RUN_FILE, MANIFEST):
            continue
        if (entry := entries.get(name)) is None:
            raise _foreign(path)
        state = path.lstat()
        if entry.sha256 is not None:
            same = not path.is_symlink() and state.st_size == entry.size
            if not same or sha256_of(path) != entry.sha256:
                raise _foreign(path, _CHANGED)
        else:
            names[state.st_dev, state.st_ino] += 1
            linked.append((name, (state.st_dev, state.st_ino)))
    for name, file in linked:
        if (folder / name).lstat().st_nlink <= names[file]:
            raise _foreign(folder / name, "is the only copy left of its image")


def _refuse_changed_run(folder: Path) -> None:
    run = read_json(folder / RUN_FILE)
    if not isinstance(run, dict) or read_text(folder / RUN_FILE) != json_text(run):
        raise _foreign(folder / RUN_FILE, _CHANGED)
    own = run.pop(_RUN_SHA256, None)
    if own != _digest(run):
        raise _foreign(folder / RUN_FILE, _CHANGED)
    if run.get(_LIST_SHA256) != sha256_of(folder / MANIFEST):
        raise _foreign(folder / MANIFEST, _CHANGED)


def _digest(run: Mapping[str, JsonValue]) -> str:
    return hashlib.sha256(json_text(run).encode()).hexdigest()


def is_whole(folder: Path) -> bool:
    """Whether a folder holds every file of its manifest, unchanged."""
    try:
        entries = _read(folder)
        present = set(_files(folder))
        refuse_changed(folder)
    except DataError:
        return False
    return present >= entries.keys()


def _read(folder: Path) -> dict[str, _Entry]:
    """The entries by path. Raises DataError for a folder without a manifest, or a damaged one."""
    path = folder / MANIFEST
    if not path.is_file():
        reason = f"holds no {MANIFEST}, which tells its files from yours"
        raise DataError(folder, reason, "move it away, or choose another --output")
    try:
        entries = [_ENTRY.validate_json(line, strict=True) for line in read_text(path).splitlines()]
    except ValidationError as error:
        raise DataError(path, "is damaged", "move its folder away") from error
    return {entry.path: entry for entry in entries}


def _files(folder: Path, inside_too: bool = False) -> Iterator[str]:
    """The path of every file inside the folder, in a fixed order, without the work folder and the
    files of file managers. inside_too: also without the folders of `_NESTED_COMMANDS`; raises
    DataError if one was changed."""
    for place, below, names in os.walk(folder):
        inner = Path(place)
        if inner == folder:
            below[:] = [name for name in below if name != WORK]
        elif inside_too and RUN_FILE in names and _goes_with(inner):
            below.clear()
            continue
        links = [name for name in below if (inner / name).is_symlink()]
        below[:] = sorted(set(below) - set(links))
        for name in sorted([*names, *links]):
            if name not in _LITTER and not name.startswith("._"):
                yield (inner / name).relative_to(folder).as_posix()


def _goes_with(folder: Path) -> bool:
    try:
        command = json.loads(read_text(folder / RUN_FILE))["command"]
    except (DataError, ValueError, TypeError, KeyError):
        return False
    if command not in _NESTED_COMMANDS:
        return False
    refuse_changed(folder)
    return True


def _entry(folder: Path, name: str) -> _Entry:
    path = folder / name
    state = path.lstat()
    return _Entry(name, state.st_size, None if state.st_nlink > 1 else sha256_of(path))


def _foreign(path: Path, reason: str = "was not written by the run of its folder") -> DataError:
    return DataError(path, reason, "move it away, or choose another --output")
