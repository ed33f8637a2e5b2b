"""The functions of the public API take addresses where they take paths."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pipeline.io.remote.addresses import has_addresses, is_address, local_path

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def taking_addresses(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, which also takes an address, as text or as a path, wherever it takes a path.

    It works on local copies. The paths in its result are those of the copies. Raises DataError for
    what cannot be fetched or uploaded.
    """

    @functools.wraps(function)
    def with_copies(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        given = tuple(map(_localized, arguments))
        named = {name: _localized(value) for name, value in options.items()}
        if not has_addresses():
            return function(*given, **named)
        from pipeline.io.remote.calls import on_copies

        bound = inspect.signature(function).bind(*given, **named)
        work = functools.partial(function, *bound.args, **bound.kwargs)

        def restored(summary: dict[str, Any]) -> Result:
            from pipeline.results import from_json

            restored: Result = from_json(result_of(function), summary, Path(function.__name__))
            return restored

        return on_copies(function.__name__, bound.arguments, work, restored)

    return with_copies


def result_of(function: Callable[..., Any]) -> Any:
    """The class of a function's result. Other annotations may name what is not imported."""
    kind = function.__annotations__["return"]
    return vars(sys.modules[function.__module__])[kind] if isinstance(kind, str) else kind


def _localized(value: Any) -> Any:
    """An argument with the paths of local copies in place of addresses."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_localized, value))
    return local_path(value) if isinstance(value, (str, Path)) and is_address(value) else value
