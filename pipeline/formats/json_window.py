"""The text of a JSON file, read forward through a window."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, NoReturn

from pydantic import JsonValue

_SPACE = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*(?=\{)")  # before an entry that is an object
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_WINDOW = 1 << 20  # bytes that are read at once
_LITERAL = 16  # characters; every word, escape and end of a number of JSON is shorter
_DEEP = 6  # brackets within brackets that `_OBJECT` passes over
_MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


def _brackets(deep: int) -> str:
    """An expression for text whose brackets are closed, `deep` within each other."""
    inner = rf"[\[{{]{_brackets(deep - 1)}[\]}}]" if deep else r"(?!)"
    return rf'(?:[^"\[\]{{}}]++|{_STRING}|{inner})*+'


_OBJECT = re.compile(rf"\{{{_brackets(_DEEP)}\}}", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """A place in a file: in bytes from its start, and line and column from 1."""

    byte: int = 0
    line: int = 1
    column: int = 1


class NotJsonError(Exception):
    """The message names the place in the file and the fault."""


class JsonText:
    """The text of a file from a place on, read forward. Text that was read is dropped."""

    def __init__(self, stream: IO[bytes], start: Place, encoding: str | None) -> None:
        self._stream, self._start = stream, start
        self._text, self._at = "", 0
        self._raw_decode = json.JSONDecoder().raw_decode
        self.marked = False
        self._windows = 0  # how many were read
        if encoding is None:
            encoding, mark = _encoding_of(stream.read(4))
            self.marked = bool(mark)
            self._start = Place(len(mark))
        self.encoding = encoding
        stream.seek(self._start.byte)
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def entries(self) -> Iterator[JsonValue]:
        """The entries of the list that starts here, or the values of the object."""
        if self.peek() == "{":
            yield from self._keyed_entries()
            return
        self.expect("[")
        if self.peek() != "]":
            yield from self.more_entries()
        self.expect("]")

    def more_entries(self) -> Iterator[JsonValue]:
        """The entries of a list from here on, of which there is one at least."""
        more = True
        while more:
            count = 0
            for count, value in self._objects():  # noqa: B007  # the last count
                yield value
            if not count:
                yield self.value()
            if more := self.peek() == ",":
                self.expect(",")

    def pass_over(self) -> list[Place]:
        """Move behind the list or object that starts here. Objects in it are not decoded. Returns
        the places of some entries of a list, about a window apart, the first among them, and that
        of its end; [] for an empty list and for an object."""
        if self.peek() == "{":
            for _ in self._keyed_entries():
                pass
            return []
        self.expect("[")
        more = self.peek() != "]"
        places, window = [], -1
        while more:
            self.peek()
            if window != self._windows:
                places.append(self.place())
                window = self._windows
            if not self._pass_over_objects():
                self.value()
            if more := self.peek() == ",":
                self.expect(",")
        if places:
            places.append(self.place())
        self.expect("]")
        return places

    def _objects(self) -> Iterator[tuple[int, JsonValue]]:
        """The next entries that are objects, numbered from 1, as far as the window has them."""
        self.peek()
        text, at, count = self._text, self._at, 0
        while text.startswith("{", at):
            try:
                value, end = self._raw_decode(text, at)
            except json.JSONDecodeError:  # `value` names the fault, or reads on
                return
            self._at, count = end, count + 1
            yield count, value
            if not (comma := _COMMA.match(text, end)):
                return
            at = comma.end()

    def _pass_over_objects(self) -> bool:
        """As `_objects`, without decoding; returns whether there was any."""
        self.peek()
        text, start = self._text, self._at
        at = start
        while match := _OBJECT.match(text, at):
            self._at = match.end()
            if not (comma := _COMMA.match(text, self._at)):
                break
            at = comma.end()
        return self._at > start

    def _keyed_entries(self) -> Iterator[JsonValue]:
        """The values of the object that starts here; one without an id has its key as id."""
        self.expect("{")
        more = self.peek() != "}"
        while more:
            if self.peek() != '"':
                self.refuse("Expecting property name")
            key = self.value()
            self.expect(":")
            entry = self.value()
            yield {"id": key, **entry} if isinstance(entry, dict) else entry
            if more := self.peek() == ",":
                self.expect(",")
        self.expect("}")

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

    def place(self) -> Place:
        """The place of the next character in the file."""
        behind, start = self._text[: self._at], self._start
        lines = behind.count("\n")
        column = self._at - behind.rfind("\n") if lines else start.column + self._at
        return Place(start.byte + len(behind.encode(self.encoding)), start.line + lines, column)

    def refuse(self, reason: str) -> NoReturn:
        place = self.place()
        raise NotJsonError(f"line {place.line} column {place.column}: {reason}")

    def _is_at_window_end(self, error: json.JSONDecodeError) -> bool:
        """Whether more text of the file may correct the error."""
        near = error.pos + _LITERAL > len(self._text)
        return near or error.msg.startswith("Unterminated string")

    def _more(self) -> bool:
        """Read twice as much text as is in memory; returns whether the file had more."""
        self._start = self.place()
        self._windows += 1
        self._text, self._at = self._text[self._at :], 0
        raw = self._stream.read(max(_WINDOW, 2 * len(self._text)))
        self._text += self._decoder.decode(raw, final=not raw)
        return bool(raw)


def _encoding_of(start: bytes) -> tuple[str, bytes]:
    """The encoding of a JSON text by its first four bytes, and its byte order mark, b"" for none.
    Without a mark, the zeros of the first two characters tell (RFC 4627, section 3)."""
    for name, mark in reversed(_MARKS.items()):  # UTF-32's mark starts with UTF-16's
        if start.startswith(mark):
            return name, mark
    return json.detect_encoding(start), b""
