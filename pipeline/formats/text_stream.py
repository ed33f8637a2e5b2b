"""Text and JSON files written piece by piece; each is complete or absent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.io.write import json_text, whole_file


@contextmanager
def text_file(path: Path) -> Iterator[IO[str]]:
    """A UTF-8 file with unix line ends. It appears, complete, when the block succeeds.

    Raises DataError when the file cannot be written, and for text that is not Unicode, such as a
    file name in another encoding.
    """
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        try:
            yield file
        except UnicodeEncodeError as error:
            reason = f"would hold text that is not Unicode ({error.object[error.start]!a})"
            remedy = "rename the file or category it comes from"
            raise DataError(path, reason, remedy) from error


def json_list(entries: Iterable[JsonValue], depth: int = 0) -> Iterator[str]:
    """The text that `json_text` makes of a list `depth` levels deep, in pieces, without the last
    line end."""
    margin = "\n" + " " * depth
    return _pieces((json_text(entry)[:-1].replace("\n", margin + " ") for entry in entries), margin)


def json_lines_list(entries: Iterable[JsonValue]) -> Iterator[str]:
    """The text of a JSON list in pieces, with one entry on each line. For entries with long lists
    of numbers: `json_list` gives each number a line of its own."""
    lines = (json.dumps(entry, sort_keys=True, ensure_ascii=False) for entry in entries)
    return _pieces(lines, "\n")


def _pieces(texts: Iterable[str], margin: str) -> Iterator[str]:
    start = "["
    for text in texts:
        yield start + margin + " " + text
        start = ","
    yield "[]" if start == "[" else margin + "]"
