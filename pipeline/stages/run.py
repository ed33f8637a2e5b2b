"""`pipeline run`: the whole job, the one stage that calls many others.

A step is skipped if its inputs have not changed since it last finished; one that was stopped goes
on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from pydantic import JsonValue, TypeAdapter

from pipeline.config.schema import RunConfig, SegmentConfig
from pipeline.config.values import Config
from pipeline.errors import DataError
from pipeline.io.locks import folder_lock
from pipeline.io.steps import Step
from pipeline.io.work_log import WorkLog
from pipeline.io.write import make_folder
from pipeline.results import StageResult
from pipeline.runtime.progress import say
from pipeline.stages.calibrate import calibrate
from pipeline.stages.compare import compare
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.evaluate import evaluate
from pipeline.stages.finetune_sam import finetune_sam
from pipeline.stages.finetune_yolo import finetune_yolo
from pipeline.stages.report import ReportResult, report
from pipeline.stages.run_baselines import anomaly_steps, classifier_step
from pipeline.stages.run_group import run_group, trainings_at_once
from pipeline.stages.run_labeller import label_steps, segmenter_step
from pipeline.stages.run_plan import planned
from pipeline.stages.segment import segment
from pipeline.stages.stats import stats
from pipeline.stages.synthesize import synthesize
from pipeline.trust.cross_detection import OUT_OF_FOLD

_STEPS = "steps.sqlite"  # by step, the key of its inputs and settings when it last finished


@dataclass(frozen=True, kw_only=True)
class RunResult(StageResult):
    """The JSON of each step's result by the step's name, and the report."""

    output: Path
    steps: dict[str, dict[str, JsonValue]]
    report: ReportResult


def run(config: RunConfig, *, overwrite: bool = False) -> RunResult:
    """Do or skip every step, then write the report.

    overwrite: delete a step's unfinished work of other settings. Without it, such work is a
    DataError. Raises DataError when another process uses the same folder.
    """
    root, resolved = config.output, config.output.resolve()
    if not resolved.name:
        raise DataError(resolved, "cannot be the folder of a run", "name a folder in it")
    with folder_lock(resolved, "run"):
        make_folder(root)
        own = root / ("data" if config.masks else "zipper")  # converted from folders, or drawn
        products = list(config.products) or [own]
        with WorkLog(root / _STEPS, "steps", TypeAdapter(str)) as log:
            steps: dict[str, dict[str, JsonValue]] = {}
            for group in _groups(config, root, products, overwrite):
                steps |= run_group(group, log, trainings_at_once(config))
        return RunResult(output=root, steps=steps, report=report(root))


def _groups(
    config: RunConfig, root: Path, products: Sequence[Path], overwrite: bool
) -> Iterator[Sequence[Step]]:
    """Every step, in order, each when those before it are done: what comes later depends on what
    they find. The steps of a group do not need each other. Each step names all that its outcome
    depends on."""
    models = []
    for group in _work_groups(config, root, products, overwrite):
        yield group
        models += [step.folder for step in group if step.folder.parent == root]
    compare_models = partial(
        compare, root, root / "comparison", device=config.device, keep_going=config.keep_going
    )
    yield [Step("compare", root / "comparison", {}, models, compare_models)]


def _work_groups(
    config: RunConfig, root: Path, products: Sequence[Path], overwrite: bool
) -> Iterator[Sequence[Step]]:
    data, detector = root / "data", root / "detector"
    start = perf_counter()
    for step in _data(config, root, products):
        yield [step]
    if config.minutes is not None:
        elapsed = perf_counter() - start
        config = planned(config, config.minutes, elapsed, trainings_at_once(config))
    yield _trainings(config, root, products[0], overwrite)
    segment_config = config.segment
    if config.tune_sam:
        segment_config = config.segment.model_copy(update={"sam": str(root / "sam")})
    sam = [root / "sam"] if config.tune_sam else []
    trust = None
    if _has_folds(config, root):
        trust = root / "trust"
        yield [_calibration(config, segment_config.sam, root, overwrite)]
    split = "test" if config.convert.test > 0 or config.convert.split_file else "val"
    truth = data / "annotations" / f"instances_{split}.json"
    for name, prompts_from in (("truth", None), ("detector", detector)):
        known = trust if prompts_from else None
        sources = [truth, *(path for path in (prompts_from, known) if path), *sam]
        yield [
            _masks(
                config, segment_config, root, name, sources, truth, prompts_from, known, overwrite
            )
        ]
        yield [_evaluation(config, root, name, truth, known)]
    if config.finetune_segmenter:
        for step in label_steps(config, segment_config, root, truth, overwrite):
            yield [step]


def _trainings(config: RunConfig, root: Path, product: Path, overwrite: bool) -> list[Step]:
    """All that learns from the converted data, the longest first: what begins last is short, so
    that no core waits for long."""
    steps = []
    if config.finetune_segmenter:
        steps.append(segmenter_step(config, config.finetune_segmenter, root, overwrite))
    if config.tune_sam:
        steps.append(_sam(config, root, overwrite))
    steps.append(_detector(config, root, overwrite))
    steps += anomaly_steps(config, root, product, overwrite)
    if config.classify:
        steps.append(classifier_step(config, config.classify, root, product, overwrite))
    return steps


def _data(config: RunConfig, root: Path, products: Sequence[Path]) -> list[Step]:
    """Photos and masks, drawn or given, to statistics and labels."""
    steps = []
    if not config.products and not config.masks:
        draw = partial(synthesize, products[0], config.synthesize)
        steps.append(Step("synthesize", products[0], _plain(config.synthesize), [], draw))
    threshold = config.convert.mask_threshold
    outside = config.allow_outside
    pair = [path for path in (config.images, config.masks) if path]
    counted = root / "data" / "annotations" / "instances.json" if pair else products[0]
    count = partial(
        stats, counted, root / "stats", mask_threshold=threshold, keep_going=config.keep_going,
        allow_outside=outside,
    )  # fmt: skip
    convert = partial(
        convert_masks, () if pair else products, root / "data", config.convert,
        images=config.images, masks=config.masks, keep_going=config.keep_going,
        allow_outside=outside,
    )  # fmt: skip
    settings: dict[str, JsonValue] = {"mask_threshold": threshold, "keep_going": config.keep_going}
    converted = {**_plain(config.convert), "keep_going": config.keep_going}
    both = [
        Step("stats", root / "stats", settings, [counted] if pair else products, count),
        Step("convert-masks", root / "data", converted, pair or products, convert),
    ]
    return [*steps, *(reversed(both) if pair else both)]


def _detector(config: RunConfig, root: Path, overwrite: bool) -> Step:
    train = partial(
        finetune_yolo,
        root / "data",
        root / "detector",
        config.finetune,
        device=config.device,
        keep_going=config.keep_going,
        overwrite=overwrite,
        replace_finished=True,
    )
    inputs = [root / "data"]
    return Step("finetune-yolo", root / "detector", _plain(config.finetune), inputs, train)


def _sam(config: RunConfig, root: Path, overwrite: bool) -> Step:
    """The SAM that `segment` names, tuned; that is a name, or a folder of an earlier tuning."""
    sam_config = config.finetune_sam.model_copy(update={"sam": config.segment.sam})
    start = Path(sam_config.sam)
    inputs = [root / "data", *([start] if start.is_dir() else [])]
    tune = partial(
        finetune_sam,
        root / "data",
        root / "sam",
        sam_config,
        device=config.device,
        keep_going=config.keep_going,
        overwrite=overwrite,
    )
    return Step("finetune-sam", root / "sam", _plain(sam_config), inputs, tune)


def _has_folds(config: RunConfig, root: Path) -> bool:
    """Whether found masks can be calibrated: by out-of-fold detections, and SAMs that did not learn
    from the photos, with SAM's own views."""
    if not (root / "detector" / OUT_OF_FOLD).is_file():
        return False
    if config.tune_sam and not (root / "sam" / "folds").is_dir():
        say("the SAM was tuned without folds: masks of found boxes are not calibrated")
        return False
    if config.segment.views.model_dump(exclude_none=True):
        say("segment has views of its own: masks of found boxes are not calibrated")
        return False
    return True


def _calibration(config: RunConfig, sam: str, root: Path, overwrite: bool) -> Step:
    calibrate_config = config.calibrate.model_copy(update={"sam": sam})
    inputs = [root / "data", root / "detector", *([Path(sam)] if Path(sam).is_dir() else [])]
    work = partial(
        calibrate, root / "data", root / "detector", root / "trust", calibrate_config,
        device=config.device, keep_going=config.keep_going, overwrite=overwrite,
    )  # fmt: skip
    return Step("calibrate", root / "trust", _plain(calibrate_config), inputs, work)


def _masks(
    config: RunConfig,
    segment_config: SegmentConfig,
    root: Path,
    name: str,
    inputs: Sequence[Path],
    truth: Path,
    detector: Path | None,
    trust: Path | None,
    overwrite: bool,
) -> Step:
    """Masks from the truth's boxes or the detector's. A wish is for the latter alone."""
    folder = root / f"masks_from_{name}"
    if trust is None:
        wishes = dict.fromkeys(("recall", "false_alarms", "cost"))
        if detector and any(getattr(segment_config, wish) is not None for wish in wishes):
            say("nothing is calibrated: labels are kept at the detector's own confidence")
        segment_config = segment_config.model_copy(update=wishes)
    work = partial(
        segment,
        images=root / "data" / "images",
        output=folder,
        config=segment_config,
        device=config.device,
        boxes=truth,
        detector=detector,
        trust=trust,
        keep_going=config.keep_going,
        overwrite=overwrite,
    )
    return Step(f"segment, {name}'s boxes", folder, _plain(segment_config), inputs, work)


def _evaluation(config: RunConfig, root: Path, name: str, truth: Path, trust: Path | None) -> Step:
    folder = root / f"evaluation_{name}_boxes"
    masks = root / f"masks_from_{name}" / "instances.json"
    images = root / "data" / "images"
    work = partial(
        evaluate, truth, masks, folder, config.evaluate, images=images, trust=trust,
        keep_going=config.keep_going,
    )  # fmt: skip
    inputs = [truth, masks, *([trust] if trust else [])]
    return Step(f"evaluate, {name}'s boxes", folder, _plain(config.evaluate), inputs, work)


def _plain(config: Config) -> dict[str, JsonValue]:
    return config.model_dump(mode="json")
