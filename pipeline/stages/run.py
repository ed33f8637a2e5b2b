"""`pipeline run`: the whole job. The one stage that calls others; a step whose inputs have not
changed since it last came to its end is skipped, and one that was stopped goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config.schema import RunConfig
from pipeline.config.values import Config
from pipeline.errors import DataError
from pipeline.io.images import list_images
from pipeline.io.locks import folder_lock
from pipeline.io.read import read_json
from pipeline.io.run_record import config_key, fingerprint, read_run_file
from pipeline.io.write import make_folder, write_json
from pipeline.results import StageResult
from pipeline.runtime.progress import say
from pipeline.stages.anomaly import anomaly
from pipeline.stages.classify import classify
from pipeline.stages.compare import compare
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.evaluate import evaluate
from pipeline.stages.finetune_sam import finetune_sam
from pipeline.stages.finetune_yolo import finetune_yolo
from pipeline.stages.report import report
from pipeline.stages.segment import segment
from pipeline.stages.stats import stats
from pipeline.stages.synthesize import synthesize
from pipeline.types import GOOD

_KEYS = "steps.json"


@dataclass(frozen=True)
class Step:
    """One stage in a run: it writes `folder` from `inputs` as `config` says."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    inputs: Sequence[Path]
    work: Callable[[], Mapping[str, Any] | StageResult]


def run(config: RunConfig, overwrite: bool = False) -> dict[str, Any]:
    """Do or skip every step, then write the report. Returns each step's summary.

    overwrite: a step's unfinished work of other settings goes; without it, DataError says that it
    is there. Raises DataError when another process is at the same folder.
    """
    root, place = config.output, config.output.resolve()
    if not place.name:
        raise DataError(place, "cannot be the folder of a run", "name a folder in it")
    with folder_lock(place, "run"):
        make_folder(root)
        products = list(config.products) or [root / "zipper"]
        summaries: dict[str, Any] = {}
        for step in _steps(config, root, products, overwrite):
            summaries[step.name] = _do(step, root)
        summaries["report"] = report(root)
    return summaries


def _steps(
    config: RunConfig, root: Path, products: list[Path], overwrite: bool = False
) -> list[Step]:
    """Every step, in order. Each names all that its outcome depends on."""
    data, detector, device = root / "data", root / "detector", config.device
    held = "test" if config.convert.test > 0 or config.convert.split_file else "val"
    truth = data / "annotations" / f"instances_{held}.json"
    steps = []
    if not config.products:
        draw = partial(synthesize, products[0], config.synthesize)
        steps.append(Step("synthesize", products[0], _plain(config.synthesize), [], draw))
    threshold = config.convert.mask_threshold
    count = partial(stats, products[0], root / "stats", mask_threshold=threshold,
                    allow_outside=config.allow_outside)  # fmt: skip
    convert = partial(convert_masks, products, data, config.convert,
                      allow_outside=config.allow_outside)  # fmt: skip
    steps += [
        Step("stats", root / "stats", {"mask_threshold": threshold}, products, count),
        Step("convert-masks", data, _plain(config.convert), products, convert),
        Step(
            "finetune-yolo",
            detector,
            _plain(config.finetune),
            [data],
            partial(
                finetune_yolo,
                data,
                detector,
                config.finetune,
                device,
                overwrite,
                replace_finished=True,
            ),
        ),
    ]
    if config.tune_sam:
        chosen = config.finetune_sam.model_copy(update={"sam": config.segment.sam})
        tune = partial(finetune_sam, data, root / "sam", chosen, device, overwrite)
        start = Path(chosen.sam)  # a name, or a folder of an earlier tuning
        inputs = [data, start] if start.is_dir() else [data]
        steps.append(Step("finetune-sam", root / "sam", _plain(chosen), inputs, tune))
        tuned = config.segment.model_copy(update={"sam": str(root / "sam")})
        config = config.model_copy(update={"segment": tuned})
    steps += _masks(config, root, truth, "truth", None, overwrite)
    steps += _masks(config, root, truth, "detector", detector, overwrite)
    if config.classify:
        outside = config.allow_outside or config.classify.allow_outside
        learned = config.classify.model_copy(
            update={"split_file": data / "split.json", "allow_outside": outside}
        )
        learn = partial(
            classify, products[0], root / "classifier", learned, device, overwrite=overwrite
        )
        inputs = [products[0], data / "split.json"]
        steps.append(Step("classify", root / "classifier", _plain(learned), inputs, learn))
    steps += _anomalies(config, root, products[0], overwrite)
    models = [step.folder for step in steps if step.folder.parent == root]
    judge_all = partial(compare, root, root / "comparison", device)
    steps.append(Step("compare", root / "comparison", {}, models, judge_all))
    return steps


def _anomalies(config: RunConfig, root: Path, product: Path, overwrite: bool) -> list[Step]:
    """Models of good images, with the detector's splits; several of a kind are numbered."""
    steps: list[Step] = []
    folders = [product / split / GOOD for split in ("train", "test")]
    if config.products and not any(list_images(path) for path in folders if path.is_dir()):
        say(f"{product} has no good image: models of good images are left out")
        return steps
    for entry in config.anomalies:
        name = f"anomaly_{entry.model}"
        count = sum(step.name.startswith(name) for step in steps)
        name += f"_{count + 1}" if count else ""
        chosen = entry.model_copy(
            update={
                "split_file": root / "data" / "split.json",
                "mask_threshold": config.convert.mask_threshold,
                "allow_outside": config.allow_outside or entry.allow_outside,
            }
        )
        fit = partial(anomaly, product, root / name, chosen, config.device, overwrite=overwrite)
        inputs = [product, root / "data" / "split.json"]
        steps.append(Step(name, root / name, _plain(chosen), inputs, fit))
    return steps


def _masks(
    config: RunConfig,
    root: Path,
    truth: Path,
    name: str,
    detector: Path | None,
    overwrite: bool,
) -> list[Step]:
    """Masks from the truth's boxes or the detector's, and how good they are."""
    images, folder = root / "data" / "images", root / f"masks_from_{name}"
    figures, masks = root / f"evaluation_{name}_boxes", root / f"masks_from_{name}/instances.json"
    cut = partial(
        segment,
        folder,
        images,
        config.segment,
        config.device,
        truth,
        detector,
        overwrite=overwrite,
    )
    judge = partial(evaluate, truth, masks, figures, config.evaluate, images=images)
    sources = [truth, detector] if detector else [truth]
    if config.tune_sam:
        sources.append(root / "sam")
    return [
        Step(f"segment, {name}'s boxes", folder, _plain(config.segment), sources, cut),
        Step(f"evaluate, {name}'s boxes", figures, _plain(config.evaluate), [truth, masks], judge),
    ]


def _plain(config: Config) -> Mapping[str, Any]:
    return config.model_dump(mode="json")


def _do(step: Step, root: Path) -> Mapping[str, Any]:
    keys = _keys_of(root)
    key = f"{config_key(step.name, step.config)} {fingerprint(step.inputs)}"
    if keys.get(step.name) == key and step.folder.is_dir():
        say(f"[{step.name}] nothing changed: skipped")
        return _kept_summary(step.folder)
    say(f"[{step.name}]")
    result = step.work()
    summary = result.to_json() if isinstance(result, StageResult) else result
    write_json(root / _KEYS, keys | {step.name: key})
    return summary


def _keys_of(root: Path) -> dict[str, Any]:
    """The key by which each step last came to its end; none of a file that is damaged, so that
    every step is done again."""
    try:
        keys = read_json(root / _KEYS)
    except DataError:
        return {}
    return keys if isinstance(keys, dict) else {}


def _kept_summary(folder: Path) -> Mapping[str, Any]:
    """The summary of a finished step; nothing where its run.json cannot be read."""
    try:
        return read_run_file(folder).summary
    except DataError:
        return {}
