"""A file of another format than a command reads is refused by the name of its format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.io.stored import archive_error, packed_inside

_NOT_SOURCES = {"output", "config_file"}
_READ = {"coco", "coco-results"}  # by every command
_ALSO = {"validate": {"yolo"}}
_ALIKE = {"cvat-coco": "coco", "coco-polygon": "coco", "coco-results": "coco",
          "labelme-polygon": "labelme", "yolo-segment": "yolo"}  # fmt: skip


def named(error: DataError, command: str, values: Mapping[str, Any]) -> DataError:
    """The error, or one that names the format of the source that it is about, or what unpacks it.

    values: of the command's options. A fault in a file of a format that the command reads stays.
    """
    from pipeline.formats.foreign import foreign_formats

    origin = values.get("origin")
    read = {_ALIKE.get(origin, origin)} if origin else _READ | _ALSO.get(command, set())
    for source in _paths(values):
        if error.path != source and source not in error.path.parents:
            continue
        is_read = command == "import" and source == values.get("source")  # it says so itself
        if not is_read and (packed := archive_error(source)):
            return packed
        about = error.path if error.path.exists() else source  # or a file that it lacks
        found = list(foreign_formats(about))
        if found and not read & {each.origin for each in found}:
            return found[0].refusal(about, "holds" if about.is_dir() else "is")
        if not found and (packed := packed_inside(source)):
            return packed
    return error


def _paths(values: Mapping[str, Any]) -> Iterator[Path]:
    """The paths that the user gave as sources."""
    for name, value in values.items():
        if name not in _NOT_SOURCES:
            each = value if isinstance(value, tuple) else (value,)
            yield from (path for path in each if isinstance(path, Path))
