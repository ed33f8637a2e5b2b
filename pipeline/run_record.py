"""`run.json`: what a run was, so that it can be told, repeated, and skipped when it may be."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pipeline
from pipeline.storage import write_json

FILE = "run.json"
_PACKAGES = ("torch", "ultralytics", "segment-anything", "opencv-python", "pycocotools", "numpy")


class RunRecord:
    """Collects what a run did; `write` puts it beside the output, last of all."""

    def __init__(self, command: str, config: Mapping[str, Any]) -> None:
        self._started = time.perf_counter()
        self.content: dict[str, Any] = {
            "command": command,
            "config": dict(config),
            "key": config_key(command, config),
            "versions": _versions(),
            "git_commit": _git_commit(),
            "machine": f"{platform.system()} {platform.machine()}",
            "weights": {},
        }

    def used_weights(self, name: str, sha256: str) -> None:
        """Note which weights were used."""
        self.content["weights"][name] = sha256

    def write(self, folder: Path, summary: Mapping[str, Any], inputs: str = "") -> None:
        """Write `folder/run.json`; its presence says that the run came to its end."""
        seconds = round(time.perf_counter() - self._started, 2)
        body = {**self.content, "inputs": inputs, "seconds": seconds, "summary": dict(summary)}
        write_json(folder / FILE, body)


def config_key(command: str, config: Mapping[str, Any]) -> str:
    """One hash for a command and all that was chosen for it."""
    text = json.dumps([command, pipeline.__version__, config], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(paths: Iterable[Path]) -> str:
    """One hash for the files below `paths`: their names, sizes and times of change."""
    digest = hashlib.sha256()
    for root in paths:
        for path in [str(root)] if root.is_file() else _files_below(root):
            if not path.endswith(f"{os.sep}{FILE}"):
                state = os.stat(path)  # noqa: PTH116  # a million Paths would not fit in memory
                digest.update(f"{path} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _files_below(root: Path) -> Iterator[str]:
    """Every file below a folder, in a fixed order, one folder's names in memory at a time."""
    for folder, below, names in os.walk(root):
        below.sort()
        for name in sorted(names):
            if (path := os.path.join(folder, name)) and os.path.isfile(path):  # noqa: PTH113, PTH118
                yield path


def _versions() -> dict[str, str]:
    found = {"pipeline": pipeline.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _git_commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
