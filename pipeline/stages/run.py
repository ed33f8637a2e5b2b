"""`pipeline run`: the whole job. The one stage that calls others; a step whose inputs have not
changed since it last came to its end is skipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import RunConfig
from pipeline.progress import say
from pipeline.run_record import FILE, config_key, fingerprint
from pipeline.stages.classify import classify
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.evaluate import evaluate
from pipeline.stages.finetune_yolo import can_be_taken_up, finetune_yolo
from pipeline.stages.report import report
from pipeline.stages.segment import segment
from pipeline.stages.stats import stats
from pipeline.stages.synthesize import synthesize
from pipeline.storage import make_folder, read_json, write_json

_KEYS = "steps.json"


@dataclass(frozen=True)
class Step:
    """One stage in a run: it writes `folder` from `inputs` as `config` says."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    inputs: Sequence[Path]
    work: Callable[[], Mapping[str, Any]]


def run(config: RunConfig) -> dict[str, Any]:
    """Do or skip every step, then write the report. Returns each step's summary."""
    root = make_folder(config.output)
    products = list(config.products) or [root / "zipper"]
    summaries: dict[str, Any] = {}
    for step in _steps(config, root, products):
        summaries[step.name] = _do(step, root)
    summaries["report"] = report(root)
    return summaries


def _steps(config: RunConfig, root: Path, products: list[Path]) -> list[Step]:
    data, detector = root / "data", root / "detector"
    truth, device = data / "annotations", config.device
    held = "test" if config.convert.test > 0 or config.convert.split else "val"
    held_truth = truth / f"instances_{held}.json"
    images = data / "images"
    steps = []
    if not config.products:
        drawing = config.synthesize
        steps.append(
            Step("synthesize", products[0], drawing.model_dump(mode="json"), [],
                 lambda: synthesize(products[0], drawing))
        )  # fmt: skip
    steps += [
        Step("stats", root / "stats", {}, products, lambda: stats(products[0], root / "stats")),
        Step("convert-masks", data, config.convert.model_dump(mode="json"), products,
             lambda: convert_masks(products, data, config.convert)),
        Step("finetune-yolo", detector, config.finetune.model_dump(mode="json"), [data],
             lambda: finetune_yolo(
                 data, detector, config.finetune, device,
                 overwrite=not can_be_taken_up(data, detector, config.finetune))),
    ]  # fmt: skip
    chosen = config.segment.model_dump(mode="json")
    judged = config.evaluate.model_dump(mode="json")
    for name, finder in (("truth", None), ("detector", detector)):
        folder, figures = root / f"masks_from_{name}", root / f"evaluation_{name}_boxes"
        steps += [
            Step(f"segment, {name}'s boxes", folder, chosen, [held_truth, *([finder] if finder else [])],
                 _bound(segment, folder, images, config.segment, device, held_truth, finder)),
            Step(f"evaluate, {name}'s boxes", figures, judged, [folder / "instances.json"],
                 _bound(evaluate, held_truth, folder / "instances.json", config.evaluate, images, figures)),
        ]  # fmt: skip
    if config.classify:
        choice = config.classify.model_copy(update={"split": data / "split.json"})
        folder = root / "classifier"
        steps.append(
            Step("classify", folder, choice.model_dump(mode="json"), [products[0], data / "split.json"],
                 lambda: classify(products[0], folder, choice, device))
        )  # fmt: skip
    return steps


def _bound(
    work: Callable[..., Mapping[str, Any]], *arguments: Any
) -> Callable[[], Mapping[str, Any]]:
    return lambda: work(*arguments)


def _do(step: Step, root: Path) -> Mapping[str, Any]:
    keys = read_json(root / _KEYS) if (root / _KEYS).is_file() else {}
    key = f"{config_key(step.name, step.config)} {fingerprint(step.inputs)}"
    if keys.get(step.name) == key and step.folder.is_dir():
        say(f"[{step.name}] nothing changed: skipped")
        kept: Mapping[str, Any] = (
            read_json(step.folder / FILE)["summary"] if (step.folder / FILE).is_file() else {}
        )
        return kept
    say(f"[{step.name}]")
    summary = step.work()
    write_json(root / _KEYS, keys | {step.name: key})
    return summary
