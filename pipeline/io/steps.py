"""The steps of a run: one is skipped if its inputs have not changed since it last finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.io.run_record import config_key, fingerprint, read_run_file
from pipeline.io.work_log import WorkLog
from pipeline.results import StageResult
from pipeline.runtime.progress import say


@dataclass(frozen=True)
class Step:
    """One stage in a run: it writes `folder` from `inputs`; `config` is part of its key."""

    name: str
    folder: Path
    config: Mapping[str, JsonValue]
    inputs: Sequence[Path]
    work: Callable[[], StageResult]


def run_step(step: Step, log: WorkLog[str]) -> dict[str, JsonValue]:
    """Run a step, or skip it; returns its result's JSON."""
    due = due_step(step, log)
    if isinstance(due, dict):
        return due
    say(f"[{step.name}]")
    return finished_step(step, due, step.work(), log)


def due_step(step: Step, log: WorkLog[str]) -> str | dict[str, JsonValue]:
    """The key under which a step is to be done; the JSON of its result where it is skipped."""
    key = f"{config_key(step.name, step.config)} {fingerprint(step.inputs)}"
    if log.get(step.name) != key or not step.folder.is_dir():
        return key
    say(f"[{step.name}] nothing changed: skipped")
    return _saved_summary(step.folder)


def finished_step(
    step: Step, key: str, result: StageResult, log: WorkLog[str]
) -> dict[str, JsonValue]:
    """Note that a step is done; returns its result's JSON. key: of `due_step`."""
    log.add(step.name, key)
    return result.to_json()


def _saved_summary(folder: Path) -> dict[str, JsonValue]:
    """The summary of a finished step; nothing where its run.json cannot be read."""
    try:
        return read_run_file(folder).summary
    except DataError:
        return {}
