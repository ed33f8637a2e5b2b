"""JSON whose long lists are decoded one entry at a time: for a file of any length, only a window of
its text and one entry are in memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.io.read import TEXT_LIMIT, open_regular, unreadable

_SPACE = re.compile(r"[ \t\n\r]*")
_WINDOW = 1 << 20  # bytes that are read at once
_LITERAL = 16  # characters; every word, escape and end of a number of JSON is shorter


class JsonRows:
    """A JSON file that is a list, or an object whose values of the names `long` are long lists.

    values: the other values of an object by name. Raises DataError for a file that is not JSON, and
    as `open_regular` does.
    """

    def __init__(self, path: Path, long: Collection[str] = ()) -> None:
        self._path = path
        self._starts: dict[str, _Place] = {}
        self.values: dict[str, JsonValue] = {}
        with _opened(path) as text:
            first = text.peek()
            self.is_list, self.is_object = first == "[", first == "{"
            if self.is_object:
                self._index(text, long)
            elif self.is_list:
                self._starts[""] = text.place()
                _pass_over(text)
            else:
                text.value()
            if text.peek():
                text.refuse("Extra data")

    def has(self, name: str) -> bool:
        """Whether the object has a list of this name."""
        return name in self._starts

    def rows(self, name: str = "") -> Iterator[JsonValue]:
        """The entries of the list `name`, or of a file that is a list, decoded one by one. Raises
        DataError."""
        with _opened(self._path, self._starts[name]) as text:
            yield from _entries(text)

    def _index(self, text: _Text, long: Collection[str]) -> None:
        """Record where the long lists start, and the other values."""
        text.expect("{")
        more = text.peek() != "}"
        while more:
            if text.peek() != '"':
                text.refuse("Expecting property name")
            name = str(text.value())
            text.expect(":")
            self._starts.pop(name, None)  # of two values with one name json takes the last
            self.values.pop(name, None)
            if name in long and text.peek() == "[":
                self._starts[name] = text.place()
                _pass_over(text)
            else:
                self.values[name] = text.value()
            if more := text.peek() != "}":
                text.expect(",")
        text.expect("}")


def _entries(text: _Text) -> Iterator[JsonValue]:
    """The entries of the list that starts here."""
    text.expect("[")
    more = text.peek() != "]"
    while more:
        yield text.value()
        if more := text.peek() == ",":
            text.expect(",")
    text.expect("]")


def _pass_over(text: _Text) -> None:
    for _ in _entries(text):
        pass


@dataclass(frozen=True)
class _Place:
    """A place in a file: in bytes from its start, and line and column from 1."""

    byte: int = 0
    line: int = 1
    column: int = 1


class _Utf16Error(Exception):
    """The file is UTF-16."""


class _NotJsonError(Exception):
    """The message names the place in the file and the fault."""


class _Text:
    """The text of a file from a place on, read forward. Text that was read is dropped."""

    def __init__(self, stream: IO[bytes], start: _Place) -> None:
        self._stream, self._start = stream, start
        self._text, self._at = "", 0
        self._raw_decode = json.JSONDecoder().raw_decode
        stream.seek(start.byte)
        mark = b"" if start.byte else stream.read(3)
        if mark == codecs.BOM_UTF8:
            self._start = _Place(3)
        if mark[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
            raise _Utf16Error
        stream.seek(self._start.byte)
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def peek(self) -> str:
        """The next character that is no space; "" at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def expect(self, mark: str) -> None:
        """Skip `mark`, which must be the next character."""
        if self.peek() != mark:
            self.refuse(f"Expecting '{mark}'")
        self._at += 1

    def value(self) -> JsonValue:
        """Decode the next value, and move behind it."""
        self.peek()
        value: JsonValue
        while True:
            try:
                value, end = self._raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                ahead = error.pos - self._at
                if self._is_at_window_end(error) and self._more():
                    continue
                self._at += ahead
                self.refuse(error.msg)
            ahead = end - self._at
            if end + _LITERAL <= len(self._text) or not self._more():  # a number may go on
                self._at += ahead
                return value

    def place(self) -> _Place:
        """The place of the next character in the file."""
        behind, start = self._text[: self._at], self._start
        lines = behind.count("\n")
        column = self._at - behind.rfind("\n") if lines else start.column + self._at
        return _Place(start.byte + len(behind.encode()), start.line + lines, column)

    def refuse(self, reason: str) -> NoReturn:
        place = self.place()
        raise _NotJsonError(f"line {place.line} column {place.column}: {reason}")

    def _is_at_window_end(self, error: json.JSONDecodeError) -> bool:
        """Whether more text of the file may correct the error."""
        near = error.pos + _LITERAL > len(self._text)
        return near or error.msg.startswith("Unterminated string")

    def _more(self) -> bool:
        """Read twice as much text as is in memory; returns whether the file had more."""
        self._start = self.place()
        self._text, self._at = self._text[self._at :], 0
        raw = self._stream.read(max(_WINDOW, 2 * len(self._text)))
        self._text += self._utf8.decode(raw, final=not raw)
        return bool(raw)


@contextmanager
def _opened(path: Path, start: _Place = _Place()) -> Iterator[_Text]:
    """The text of a JSON file from a place on. Every fault becomes the one line that
    `io.read.read_json` raises."""
    with open_regular(path, TEXT_LIMIT) as stream:
        try:
            yield _Text(stream, start)
        except _Utf16Error as error:
            raise DataError(path, "is UTF-16 text", "save it as UTF-8") from error
        except _NotJsonError as error:
            raise DataError(path, f"is not JSON ({error})", "write it again") from error
        except UnicodeDecodeError as error:
            at = stream.tell() - len(error.object) + error.start
            raise DataError(path, f"is not UTF-8 text (byte {at})", "save it as UTF-8") from error
        except RecursionError as error:
            raise DataError(path, "is nested too deeply", "write it again") from error
        except ValueError as error:  # a number of thousands of digits
            raise DataError(path, f"is not usable JSON ({error})", "write it again") from error
        except OSError as error:
            raise unreadable(path, error) from error
