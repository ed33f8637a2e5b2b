"""Text and JSON files that are written piece by piece, each whole or absent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pipeline.errors import DataError
from pipeline.io.write import json_text, whole_file


@contextmanager
def text_file(path: Path) -> Iterator[IO[str]]:
    """A UTF-8 file with unix line ends; it is there, whole, when the block has succeeded. Raises
    DataError when the system refuses, and for text that is no Unicode, as a file name in another
    encoding is not."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        try:
            yield file
        except UnicodeEncodeError as error:
            reason = f"would hold text that is not Unicode ({error.object[error.start]!a})"
            remedy = "rename the file or category it comes from"
            raise DataError(path, reason, remedy) from error


def json_list(entries: Iterable[Any], depth: int = 0) -> Iterator[str]:
    """The pieces of `json_text` of a list, without the last line's end, where it stands `depth`
    levels deep."""
    margin = "\n" + " " * depth
    return _pieces((json_text(entry)[:-1].replace("\n", margin + " ") for entry in entries), margin)


def json_lines_list(entries: Iterable[Any]) -> Iterator[str]:
    """The pieces of a JSON list with an entry a line, for entries of long lists of numbers, which
    `json_list` would put on a line each."""
    lines = (json.dumps(entry, sort_keys=True, ensure_ascii=False) for entry in entries)
    return _pieces(lines, "\n")


def _pieces(texts: Iterable[str], margin: str) -> Iterator[str]:
    start = "["
    for text in texts:
        yield start + margin + " " + text
        start = ","
    yield "[]" if start == "[" else margin + "]"
