"""What a long run has finished, line by line: whatever kills the run, whole lines stay."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.io.write import write_error

_DONE = "done"


class Journal:
    """A file of rows, grouped by the item they belong to. An item counts once its last line is
    there; what a killed process wrote beyond that is cut off when the journal is opened again.

    done: the items that are finished.
    """

    def __init__(self, path: Path) -> None:
        """Open or create. Raises DataError when the system refuses."""
        self._path = path
        self.done: set[int] = set()
        try:
            whole = self._read_back()
            self._file = path.open("r+b" if path.exists() else "w+b")
            self._file.truncate(whole)
            self._file.seek(whole)
        except OSError as error:
            raise write_error(path, error) from error

    def _read_back(self) -> int:
        """Find the finished items; returns the bytes up to the end of the last one."""
        whole = position = 0
        if not self._path.exists():
            return 0
        with self._path.open("rb") as lines:
            for line in lines:
                position += len(line)
                if line.startswith(b"#") and line.endswith(b"\n"):
                    self.done.add(int(json.loads(line[1:])[_DONE]))
                    whole = position
        return whole

    def add(self, item: int, rows: Sequence[str], note: Mapping[str, Any]) -> None:
        """Finish an item: its rows, each one line of text, and a note. Raises DataError."""
        last = "#" + json.dumps({_DONE: item, **note}, sort_keys=True)
        try:
            self._file.write("".join(f"{line}\n" for line in (*rows, last)).encode())
            self._file.flush()
        except OSError as error:
            raise write_error(self._path, error) from error
        self.done.add(item)

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
            yield from (json.loads(line[1:]) for line in lines if line.startswith(b"#"))

    def row_at(self, place: int) -> str:
        """The row at a place that `rows` gave."""
        self._file.seek(place)
        return self._file.readline().decode().rstrip("\n")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
