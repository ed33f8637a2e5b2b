"""Steps of a run that do not need each other: one after the other, or side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from pydantic import JsonValue

from pipeline.config.schema import RunConfig
from pipeline.io.steps import Step, due_step, finished_step, run_step
from pipeline.io.work_log import WorkLog
from pipeline.runners.side_by_side import side_by_side
from pipeline.runtime.progress import say
from pipeline.runtime.threads import available_cpus

_USUAL = 2  # more would need much memory


def trainings_at_once(config: RunConfig) -> int:
    """How many trainings run side by side. By default two where CPUs train and there are two, else
    one: on a GPU they would share its memory."""
    if config.trainings_at_once:
        return config.trainings_at_once
    from pipeline.models.devices import torch_device

    on_cpu = torch_device(config.device).type == "cpu"
    return min(_USUAL, available_cpus()) if on_cpu else 1


def run_group(
    steps: Sequence[Step], log: WorkLog[str], at_once: int
) -> dict[str, dict[str, JsonValue]]:
    """Run or skip each step; returns the JSON of each result by the step's name.

    at_once: steps that run side by side. One that is alone in its group has all threads; the others
    have their share of them however many are left, so that a call that goes on ends with the same
    bytes.
    """
    if at_once == 1 or len(steps) == 1:
        return {step.name: run_step(step, log) for step in steps}
    due = {step.name: due_step(step, log) for step in steps}
    keys = {name: key for name, key in due.items() if isinstance(key, str)}
    results = {name: result for name, result in due.items() if isinstance(result, dict)}
    waiting = {step.name: step for step in steps if step.name in keys}
    if waiting:
        say(f"[{', '.join(waiting)}] {min(at_once, len(waiting))} at once")
    works = {name: step.work for name, step in waiting.items()}
    with closing(side_by_side(works, at_once)) as done:
        for name, result in done:
            results[name] = finished_step(waiting[name], keys[name], result, log)
            say(f"[{name}] done")
    return {step.name: results[step.name] for step in steps}
