"""Errors that the user can correct. Each is shown as one line, with exit code 2."""

from __future__ import annotations

import re
from pathlib import Path

_addresses: dict[str, tuple[re.Pattern[str], str]] = {}  # by the folder of their local copies
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def one_line(text: str) -> str:
    """Text with line ends, other control characters and invalid Unicode written as escapes. A file
    name may hold them; a terminal or a UTF-8 file must not get them. Local copies are named by
    their addresses."""
    return with_addresses(escaped(text))


def escaped(text: str) -> str:
    """As `one_line`, with local copies named by their paths."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def show_as_address(folder: Path, address: str) -> None:
    """From now on, a path below `folder` is shown as an address. address: its first part, such as
    `s3://`. Unfinished work, which has no address, keeps its path."""
    for place in {str(folder), str(folder.resolve())}:
        unless_work = r"(?![^;:]*/\.[^/;:]+\.(?:unfinished|old)\b)"
        _addresses[place] = re.compile(re.escape(f"{place}/") + unless_work), address


def with_addresses(text: str) -> str:
    """Text in which the paths of local copies are the addresses that they are copies of."""
    for place, (pattern, address) in _addresses.items():
        if place in text:
            text = pattern.sub(lambda _, address=address: address, text)  # type: ignore[misc]
    return text


class PipelineError(Exception):
    """Base of every error that is shown to the user as one line."""

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class ConfigError(PipelineError):
    """An option or a configuration file has a value that cannot be used."""


class DataError(PipelineError):
    """A file or folder of the user's data cannot be used.

    `remedy` is the next thing to do, as a full clause.
    """

    def __init__(self, path: str | Path, reason: str, remedy: str = "") -> None:
        self.path = Path(path)
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{path}: {reason}" + (f"; {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[type[DataError], tuple[Path, str, str]]:
        """Errors cross from one process to another."""
        return type(self), (self.path, self.reason, self.remedy)


class WeightsError(PipelineError):
    """Model weights are missing, unreachable or not what their name promises."""


class Faults:
    """The errors in the user's data: the first one ends the command, or all are kept.

    With `keep_going`, `add` records the error so that its file can be skipped and every fault is
    reported at the end.
    """

    def __init__(self, keep_going: bool = False) -> None:
        self.keep_going = keep_going
        self.errors: list[DataError] = []

    def add(self, error: DataError) -> None:
        """Record a fault; raise it without `keep_going`."""
        if not self.keep_going:
            raise error
        self.errors.append(error)

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each fault; once for one that was met twice."""
        return tuple(dict.fromkeys(map(str, self.errors)))
