"""JSON whose long lists are decoded one entry at a time: a file's text is held, its values are
not."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.io.read import read_text

_SPACE = re.compile(r"[ \t\n\r]*")
_BETWEEN = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")  # two entries


class JsonRows:
    """A JSON file that is a list, or an object with lists of the names `long`.

    values: the other values of an object by name. Raises DataError for what is not JSON.
    """

    def __init__(self, path: Path, long: Collection[str] = ()) -> None:
        self._path, self._text = path, read_text(path)
        self._decode = json.JSONDecoder().raw_decode
        self._starts: dict[str, int] = {}
        self.values: dict[str, Any] = {}
        with _one_line(path):
            at = _after(self._text, 0)
            self.is_list, self.is_object = (self._text[at : at + 1] == mark for mark in "[{")
            if self.is_object:
                at = self._index(at, long)
            elif self.is_list:
                self._starts[""] = at
                at = self._skip(at)
            else:
                at = self._decode(self._text, at)[1]
            if _after(self._text, at) < len(self._text):
                raise json.JSONDecodeError("Extra data", self._text, at)

    def has(self, name: str) -> bool:
        """Whether the object has a list of this name."""
        return name in self._starts

    def rows(self, name: str = "") -> Iterator[Any]:
        """The entries of the list `name`, or of the file that is a list, each decoded when it is
        asked for. Raises DataError."""
        with _one_line(self._path):
            yield from (value for value, _ in self._entries(self._starts[name]))

    def _index(self, at: int, long: Collection[str]) -> int:
        """Note where the lists start, and the other values; returns where the object ends."""
        text = self._text
        at = _after(text, at + 1)
        if text[at : at + 1] == "}":
            return at + 1
        while True:
            if text[at : at + 1] != '"':
                raise json.JSONDecodeError("Expecting property name", text, at)
            name, at = self._decode(text, at)
            at = _after(text, _expect(text, _after(text, at), ":"))
            self._starts.pop(name, None)  # of two values of one name the last counts, as in json
            self.values.pop(name, None)
            if name in long and text[at : at + 1] == "[":
                self._starts[name] = at
                at = self._skip(at)
            else:
                self.values[name], at = self._decode(text, at)
            at = _after(text, at)
            if text[at : at + 1] == "}":
                return at + 1
            at = _after(text, _expect(text, at, ","))

    def _skip(self, at: int) -> int:
        """Where the list that starts at `at` ends."""
        end = _after(self._text, at + 1)
        for _, after in self._entries(at):
            end = after
        return _expect(self._text, _after(self._text, end), "]")

    def _entries(self, at: int) -> Iterator[tuple[Any, int]]:
        """Each entry of the list that starts at `at`, and where it ends."""
        text, decode, between = self._text, self._decode, _BETWEEN.match
        at = _after(text, at + 1)
        if text[at : at + 1] == "]":
            return
        while True:
            value, at = decode(text, at)
            yield value, at
            comma = between(text, at)
            if comma is None:
                return  # the list's end, or `_skip` finds another mark there
            at = comma.end()


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """What can be wrong with JSON, as the one line of `io.read.read_json`."""
    try:
        yield
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}: {error.msg}"
        raise DataError(path, f"is not JSON ({where})", "write it again") from error
    except RecursionError as error:
        raise DataError(path, "is nested too deeply", "write it again") from error
    except ValueError as error:  # a number of thousands of digits
        raise DataError(path, f"is not usable JSON ({error})", "write it again") from error


def _after(text: str, at: int) -> int:
    """The first place from `at` on that is no space."""
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _expect(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        raise json.JSONDecodeError(f"Expecting '{mark}'", text, at)
    return at + 1
