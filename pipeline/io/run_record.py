"""`run.json`: the command, settings, inputs, weights and result of a run."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import overload

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter

from pipeline.errors import with_addresses
from pipeline.io.folders import clear_work, has_key, resumable_folder, whole_folder
from pipeline.io.manifest import MANIFEST, is_whole, write_manifest
from pipeline.io.read import RUN_FILE, checked, files_below, read_json
from pipeline.io.rotated_photos import RotatedPhotos
from pipeline.results import R, StageResult, from_json
from pipeline.version import __version__

_PACKAGES = ("torch", "ultralytics", "segment-anything", "opencv-python", "pycocotools", "numpy")
Summary = dict[str, JsonValue]  # the dump of a result
_RUN_FILES = (  # never part of inputs: a review of them is an output
    f"{os.sep}{RUN_FILE}", f"{os.sep}{MANIFEST}", ".cache", ".review", ".review-wal",
    ".review-shm", ".review.lock",
)  # fmt: skip


class RunFile(BaseModel):
    """The keys of a run.json that are read back. summary: the dump of the stage's result.
    exif_rotated_read_upright: photos that EXIF rotates."""

    model_config = ConfigDict(frozen=True)

    command: str
    summary: Summary
    config: dict[str, JsonValue] = {}
    seconds: float = 0.0
    weights: dict[str, str] = {}
    versions: dict[str, str] = {}
    git_commit: str = ""
    exif_rotated_read_upright: int = 0


_RUN_FILE = TypeAdapter(RunFile)


def read_run_file(folder: Path) -> RunFile:
    """The run.json of a folder. Raises DataError for a file of other content."""
    return checked(_RUN_FILE, read_json(folder / RUN_FILE), folder / RUN_FILE)


class RunRecord:
    """Collects the record of a run, and opens its output folder. `write` is the last step."""

    def __init__(
        self, command: str, config: Mapping[str, JsonValue], reads: Iterable[Path | None] = ()
    ) -> None:
        """reads: the files and folders that the result depends on."""
        self._started = time.perf_counter()
        self._command, self._reads = command, [path for path in reads if path]
        self._resume_key = ""
        self._rotated = RotatedPhotos()
        self._weights: dict[str, str] = {}
        self._config, self._key = dict(config), config_key(command, config)
        self._versions, self._commit = _versions(), _git_commit()  # now: files may change later

    def used_weights(self, name: str, sha256: str) -> None:
        """Note which weights were used."""
        self._weights[name] = sha256

    @cached_property
    def inputs(self) -> str:
        """One hash of all that is read, as it is at the first call."""
        return fingerprint(self._reads)

    @property
    def resume_key(self) -> str:
        """Text of command, settings, inputs and weights. Stopped work of the same text goes on."""
        return with_addresses(f"{self._key} {self.inputs} {self._weights}")

    def whole_folder(self, output: Path) -> AbstractContextManager[Path]:
        """See `folders.whole_folder`."""
        return whole_folder(output, self._command, self._reads)

    def resumable_folder(
        self, output: Path, overwrite: bool = False
    ) -> AbstractContextManager[Path]:
        """See `folders.resumable_folder`: for the same command, settings, inputs and weights."""
        self._resume_key = self.resume_key  # before the work, which may add weights
        return resumable_folder(output, self._command, self._resume_key, self._reads, overwrite)

    @overload
    def finished(self, folder: Path, kind: None = None) -> Summary | None: ...
    @overload
    def finished(self, folder: Path, kind: type[R]) -> R | None: ...
    def finished(
        self, folder: Path, kind: type[StageResult] | None = None
    ) -> StageResult | Summary | None:
        """Result of a run that was killed between its last byte and the move of its folder; None
        for any other. Without `kind`, the JSON of the result."""
        if not (folder / RUN_FILE).is_file() or not is_whole(folder):
            return None
        summary = read_run_file(folder).summary
        return summary if kind is None else from_json(kind, summary, folder / RUN_FILE)

    @overload
    def finished_before(self, output: Path, kind: None = None) -> Summary | None: ...
    @overload
    def finished_before(self, output: Path, kind: type[R]) -> R | None: ...
    def finished_before(
        self, output: Path, kind: type[StageResult] | None = None
    ) -> StageResult | Summary | None:
        """Result of a finished run of the same command, settings, inputs and weights; None where
        `output` holds anything else. Without `kind`, the JSON of the result."""
        if not has_key(output, self.resume_key):
            return None
        result = self.finished(output) if kind is None else self.finished(output, kind)
        if result is not None:
            clear_work(output, self._command)
        return result

    def write(self, folder: Path, result: StageResult | Mapping[str, JsonValue]) -> None:
        """Write `folder/run.json`, after the manifest of all files; only a finished run has one."""
        content: dict[str, JsonValue] = {
            "command": self._command,
            "config": self._config,
            "key": self._key,
            "versions": {**self._versions},
            "git_commit": self._commit,
            "machine": f"{platform.system()} {platform.machine()}",
            "weights": {**self._weights},
            "inputs": self.inputs,
            "resume_key": self._resume_key,
            "seconds": round(time.perf_counter() - self._started, 2),
            "summary": result.to_json() if isinstance(result, StageResult) else dict(result),
        }
        if count := len(self._rotated):
            content["exif_rotated_read_upright"] = count
        text = with_addresses(json.dumps(content, ensure_ascii=False))
        write_manifest(folder, json.loads(text))


def config_key(command: str, config: Mapping[str, JsonValue]) -> str:
    """One hash for a command and its settings."""
    text = json.dumps([command, __version__, config], sort_keys=True, default=str)
    return hashlib.sha256(with_addresses(text).encode()).hexdigest()[:16]


def folder_of(name: str) -> Path | None:
    """The folder of this name; None if it is the name of weights."""
    return Path(name) if Path(name).is_dir() else None


def fingerprint(paths: Iterable[Path]) -> str:
    """One hash for the files at and below `paths`: their names, sizes and times of change."""
    digest = hashlib.sha256()
    for root in paths:
        for path in [str(root)] if root.is_file() else files_below(root):
            if not path.endswith(_RUN_FILES):
                digest.update(os.fsencode(path))
                with suppress(OSError):  # a link that leads nowhere
                    state = os.stat(path)  # noqa: PTH116  # a million Paths do not fit in memory
                    digest.update(f" {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


@cache
def _versions() -> Mapping[str, str]:
    versions = {"pipeline": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


@cache
def _git_commit() -> str:
    """That of the code which this process has loaded, whatever is checked out later."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
