"""JSON whose long lists are decoded one entry at a time: for a file of any length, only a window of
its text and one entry are in memory.

The text is UTF-8, or UTF-16 or UTF-32 as Windows' tools save it, with or without a byte order mark.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Protocol, cast

from pydantic import JsonValue
from pydantic_core import from_json

from pipeline.errors import DataError
from pipeline.formats.json_window import JsonText, NotJsonError, Place
from pipeline.io.read import TEXT_LIMIT, open_regular, unreadable

EXTRA = "Extra data"  # the fault of a file with more than one value
_START = Place()


class Rows(Protocol):
    """A file whose long lists are read one entry at a time. values: the others, by name. is_list:
    the file is one list, called ""."""

    values: dict[str, JsonValue]
    is_list: bool

    def has(self, name: str) -> bool:
        """Whether there is a list of this name."""
        ...

    def rows(self, name: str = "") -> Iterator[JsonValue]:
        """The entries of a list. Raises DataError."""
        ...


class JsonRows:
    """A JSON file that is a list, or an object whose values of the names `long` are long lists.

    keyed: those of `long` whose value may be an object of entries by their id, in place of a list.
    values: the other values of an object by name. encoding: of the text; marked: whether it starts
    with a byte order mark. Raises DataError for a file that is not JSON, and as `open_regular`
    does. A fault inside an entry of a long list is found by `rows`.
    """

    def __init__(self, path: Path, long: Collection[str] = (), keyed: Collection[str] = ()) -> None:
        self._path = path
        self._starts: dict[str, Place] = {}
        self._blocks: dict[str, Sequence[Place]] = {}  # of a list, as `JsonText.pass_over` has them
        self._openings = dict.fromkeys(long, "[") | dict.fromkeys(keyed, "[{")
        self.values: dict[str, JsonValue] = {}
        self.by_id: set[str] = set()  # the names of lists that are objects in the file
        with _opened(path) as text:
            self.encoding, self.marked = text.encoding, text.marked
            first = text.peek()
            self.is_list, self.is_object = first == "[", first == "{"
            if self.is_object:
                self._index(text)
            elif self.is_list:
                self._starts[""] = text.place()
                self._blocks[""] = text.pass_over()
            else:
                text.value()
            if text.peek():
                text.refuse(EXTRA)

    def has(self, name: str) -> bool:
        """Whether the object has a list of this name."""
        return name in self._starts

    def rows(self, name: str = "") -> Iterator[JsonValue]:
        """The entries of the list `name`, or of a file that is a list. Raises DataError."""
        blocks = self._blocks[name]
        if not blocks or self.encoding != "utf-8":
            with _opened(self._path, self._starts[name], self.encoding) as text:
                yield from text.entries()
            return
        for start, end in pairwise(blocks):
            values = self._block(start, end)
            if values is None:  # one by one, which names a fault
                with _opened(self._path, start, self.encoding) as text:
                    yield from text.more_entries()
                    text.expect("]")
                return
            yield from values

    def _block(self, start: Place, end: Place) -> list[JsonValue] | None:
        """The entries between two places of a list, decoded at once; None for those that pydantic's
        decoder refuses, such as half of a pair of surrogates."""
        try:
            with open_regular(self._path, TEXT_LIMIT) as stream:
                stream.seek(start.byte)
                raw = stream.read(end.byte - start.byte)
            return cast(list[JsonValue], from_json(b"[" + raw.rstrip(b" \t\r\n,") + b"]"))
        except OSError as error:
            raise unreadable(self._path, error) from error
        except ValueError:
            return None

    def _index(self, text: JsonText) -> None:
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
            self.by_id.discard(name)
            if (first := text.peek()) and first in self._openings.get(name, ""):
                self._starts[name] = text.place()
                self.by_id |= {name} if first == "{" else set()
                self._blocks[name] = text.pass_over()
            else:
                self.values[name] = text.value()
            if more := text.peek() != "}":
                text.expect(",")
        text.expect("}")


@contextmanager
def _opened(path: Path, start: Place = _START, encoding: str | None = None) -> Iterator[JsonText]:
    """The text of a JSON file from a place on. encoding: None finds it. Every fault becomes the one
    line that `io.read.read_json` raises."""
    with open_regular(path, TEXT_LIMIT) as stream:
        try:
            yield JsonText(stream, start, encoding)
        except NotJsonError as error:
            raise DataError(path, f"is not JSON ({error})", "write it again") from error
        except UnicodeDecodeError as error:
            at = stream.tell() - len(error.object) + error.start
            name = error.encoding.upper().removesuffix("-LE").removesuffix("-BE")
            raise DataError(path, f"is not {name} text (byte {at})", "save it as UTF-8") from error
        except RecursionError as error:
            raise DataError(path, "is nested too deeply", "write it again") from error
        except ValueError as error:  # a number of thousands of digits
            raise DataError(path, f"is not usable JSON ({error})", "write it again") from error
        except OSError as error:
            raise unreadable(path, error) from error
