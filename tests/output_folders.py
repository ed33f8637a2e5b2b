"""Output folders as commands leave them."""

from __future__ import annotations

from pathlib import Path

from pipeline.io.folders import whole_folder
from pipeline.io.manifest import write_manifest
from pipeline.io.write import write_text


def finish(folder: Path, command: str = "job") -> None:
    """What RunRecord.write leaves, last of all."""
    write_manifest(folder, {"command": command})


def make(path: Path, files: dict[str, str], command: str = "job") -> None:
    with whole_folder(path, command) as folder:
        for name, text in files.items():
            write_text(folder / name, text)
        finish(folder, command)
