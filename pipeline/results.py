"""What a stage returns: frozen dataclasses, and their dump as JSON.

A stage's result holds paths, counts and figures. `to_json` makes the JSON that `--json`
prints and run.json holds. `from_json` reads it back when a finished run is called again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import JsonValue, TypeAdapter, ValidationError

from pipeline.errors import DataError

R = TypeVar("R", bound="StageResult")


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """Base of every stage's result. A figure that was not measured is None."""

    def to_json(self) -> dict[str, JsonValue]:
        """All fields as JSON values; paths as text, fields that are None left out."""
        kind: Any = type(self)
        dumped: dict[str, JsonValue] = _adapter(kind).dump_python(
            self, mode="json", exclude_none=True
        )
        return dumped

    @property
    def exit_code(self) -> int:
        """What the command line ends with: 0, or 1 where the result itself is a failure."""
        return 0


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Of a result's class, made once."""
    return TypeAdapter(kind)


def from_json(kind: type[R], summary: Mapping[str, JsonValue], path: Path) -> R:
    """The result that `to_json` dumped into the file `path`. Raises DataError for another's."""
    plain: Any = kind
    try:
        result: R = _adapter(plain).validate_python(_completed(kind, dict(summary)))
    except ValidationError as error:
        reason = f"its summary is not one of {kind.__name__}"
        raise DataError(path, reason, "run the command again with --overwrite") from error
    return result


def _completed(kind: Any, value: JsonValue) -> JsonValue:
    """A dumped value with the fields that `to_json` left out, as None, in all its dataclasses."""
    arguments = [one for one in get_args(kind) if one not in (NoneType, Ellipsis)]
    if isinstance(value, list) and arguments:
        item = [*arguments, *arguments[-1:] * len(value)]
        return [_completed(one, inner) for one, inner in zip(item, value, strict=False)]
    if not isinstance(value, dict):
        return value
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        absent = {field.name: None for field in fields(kind) if field.name not in value}
        return {
            **{name: inner for name, inner in absent.items() if NoneType in get_args(hints[name])},
            **{name: _completed(hints.get(name), inner) for name, inner in value.items()},
        }
    if get_origin(kind) is dict:
        return {name: _completed(arguments[-1], inner) for name, inner in value.items()}
    return _completed(arguments[0], value) if len(arguments) == 1 else value
