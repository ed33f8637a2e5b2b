"""What a long run has finished, item by item: whatever kills the run, whole items stay.

Lines that begin with `#` are the journal's own: an item's end with its note and a checksum, a mark
that all before it is on the disk, and the boot of the machine that wrote what follows.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import TypeAdapter

from pipeline.io.folders import sync_file_system
from pipeline.io.write import open_own, write_error
from pipeline.runtime.progress import say

_DONE, _CHECK, _BOOT, _SYNCED = "done", "crc32", "boot", "synced"
_SYNC_S = 10.0  # between two marks: at most this much work is done again after a power cut


class WorkLog:
    """A file of rows, grouped by the item they belong to.

    An item counts once its last line is there, and its rows and note are as they were written;
    after a power cut, only what was on the disk by then. What lies beyond the last such item is cut
    off when the journal is opened again.

    done: the items that are finished.
    """

    def __init__(
        self,
        path: Path,
        note: TypeAdapter[Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open or create. note: what an item's note holds; one that does not is damage. Raises
        DataError when the system refuses."""
        self._path, self._note, self._clock = path, note, clock
        self._synced_at = clock()
        self._says_boot = False
        self.done: set[int] = set()
        try:
            self._file = open_own(path)
            whole = self._read_back()
            self._file.truncate(whole)
            self._file.seek(whole)
        except OSError as error:
            raise write_error(path, error) from error

    def _read_back(self) -> int:
        """Find the finished items; returns the bytes up to the end of the last one."""
        whole = position = check = 0
        last_boot, synced = "", (0, set[int]())
        for line in self._file:
            position += len(line)
            if not line.startswith(b"#"):
                check = zlib.crc32(line, check)
                continue
            if (entry := self._entry(line, check)) is None:
                break
            if _BOOT in entry:
                last_boot = entry[_BOOT]
            elif _SYNCED in entry:
                synced = position, set(self.done)
            else:
                self.done.add(entry[_DONE])
            whole, check = position, 0
        if whole and last_boot != _boot_id():
            whole, self.done = synced
        if position > whole:
            say(f"{self._path}: what follows {len(self.done)} finished items is not whole: cut off")
        return whole

    def _entry(self, line: bytes, check: int) -> dict[str, Any] | None:
        """One of the journal's own lines, after rows of the checksum `check`; None for one that is
        torn or damaged."""
        with suppress(ValueError, RecursionError):
            entry = json.loads(line[1:])
            if not isinstance(entry, dict) or not line.endswith(b"\n"):
                return None
            if _BOOT in entry or _SYNCED in entry:
                return entry
            wanted = entry.pop(_CHECK, None)
            if not isinstance(entry.get(_DONE), int) or wanted != _checksum(entry, check):
                return None
            if self._note:
                self._note.validate_python(entry)
            return entry
        return None

    def add(self, item: int, rows: Sequence[str], note: Mapping[str, Any]) -> None:
        """Finish an item: its rows, each one line of text, and a note. Raises DataError."""
        text = "".join(f"{line}\n" for line in rows).encode()
        try:
            if not self._says_boot:
                self._write({_BOOT: _boot_id()})
                self._says_boot = True
            self._file.write(text)
            entry = {_DONE: item, **note}
            self._write({**entry, _CHECK: _checksum(entry, zlib.crc32(text))})
            if self._clock() - self._synced_at >= _SYNC_S:
                sync_file_system(self._path.parent)
                self._write({_SYNCED: len(self.done) + 1})
                self._synced_at = self._clock()
        except OSError as error:
            raise write_error(self._path, error) from error
        self.done.add(item)

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(f"#{json.dumps(entry, sort_keys=True)}\n".encode())
        self._file.flush()

    def rows(self) -> Iterator[tuple[int, str]]:
        """Every row with its place in the file, for `row_at`."""
        self._file.flush()
        position = 0
        with self._path.open("rb") as lines:
            for line in lines:
                if not line.startswith(b"#"):
                    yield position, line.decode().rstrip("\n")
                position += len(line)

    def notes(self) -> Iterator[Mapping[str, Any]]:
        """What was noted of each finished item."""
        self._file.flush()
        with self._path.open("rb") as lines:
            entries = (json.loads(line[1:]) for line in lines if line.startswith(b"#"))
            yield from (entry for entry in entries if _DONE in entry)

    def row_at(self, place: int) -> str:
        """The row at a place that `rows` gave."""
        self._file.seek(place)
        return self._file.readline().decode().rstrip("\n")

    def __enter__(self) -> WorkLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _checksum(entry: Mapping[str, Any], check: int) -> int:
    """Of an item's note, after its rows."""
    return zlib.crc32(json.dumps(entry, sort_keys=True).encode(), check)


def _boot_id() -> str:
    """What changes when the machine starts; "" where the system does not say."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
