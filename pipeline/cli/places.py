"""Paths and addresses, as options and arguments of commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click


class PlaceType(click.Path):
    """A local path, or an address such as `s3://bucket/photos`, which becomes the path of its local
    copy."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`. Raises DataError for an address that cannot be one."""
        if isinstance(value, str) and "://" in value:
            from pipeline.io.remote.addresses import is_address, local_path, refuse_other_schemes

            refuse_other_schemes(value)
            if is_address(value):
                return local_path(value)
        return super().convert(value, param, ctx)


FILE = PlaceType()


def called(verb: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """The result of a command, with what it reads fetched and what it writes uploaded."""
    from pipeline.io.remote.addresses import has_addresses

    if not has_addresses():
        return verb(**values)
    from pipeline.io.remote.calls import on_copies

    command = click.get_current_context().info_name or ""
    return on_copies(command, values, lambda: verb(**values), lambda summary: summary)


def fetched(file: Path | None) -> Path | None:
    """A configuration file, on this machine."""
    from pipeline.io.remote.addresses import has_addresses

    if file is not None and has_addresses():
        from pipeline.io.remote.calls import fetch_file

        fetch_file(file)
    return file
