"""What a stage returns: frozen dataclasses, and their dump as JSON.

A stage's result holds paths, counts and figures. `to_json` makes of it what `--json` prints and
run.json keeps; `from_json` reads it back, as a finished run that is called again does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue, TypeAdapter, ValidationError

from pipeline.errors import DataError

R = TypeVar("R", bound="StageResult")


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """Base of every stage's result. A figure that was not measured is None."""

    def to_json(self) -> dict[str, JsonValue]:
        """All fields as JSON values; paths as text, fields that are None left out."""
        dumped: dict[str, JsonValue] = TypeAdapter(type(self)).dump_python(
            self, mode="json", exclude_none=True
        )
        return dumped

    @property
    def exit_code(self) -> int:
        """What the command line ends with: 0, or 1 where the result itself is a failure."""
        return 0


def from_json(kind: type[R], summary: Mapping[str, JsonValue], path: Path) -> R:
    """The result that `to_json` dumped into the file `path`. Raises DataError for another's."""
    try:
        result: R = TypeAdapter(kind).validate_python(dict(summary))
    except ValidationError as error:
        reason = f"its summary is not one of {kind.__name__}"
        raise DataError(path, reason, "run the command again with --overwrite") from error
    return result
