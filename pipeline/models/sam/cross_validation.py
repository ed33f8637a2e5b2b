"""Cross-validation of a tuning: every mask is predicted by a SAM that did not learn from its photo.

These out-of-fold masks decide how the tuned SAM views objects and whether the patch prior is used,
and they calibrate the expected IoU.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, NonNegativeInt, TypeAdapter

from pipeline.geometry.boxes import Boxes
from pipeline.io.work_log import LOG, WorkLog
from pipeline.models.sam.calibration import Calibration, calibrate, cross_expected
from pipeline.models.sam.evaluation import (
    Attempt,
    Instance,
    evaluate_attempts,
    perturb_boxes,
    true_boxes,
)
from pipeline.models.sam.folds import has_fold, write_fold
from pipeline.models.sam.model import SamModel
from pipeline.models.sam.patch_prior import ForegroundBackground, PatchPrior, fit_patch_prior
from pipeline.models.sam.trainer import TrainingExample
from pipeline.models.sam.tuning import SamTuner
from pipeline.models.sam.views import ViewOptions
from pipeline.runtime.progress import say

MIN_PHOTOS = 10  # for a calibration
_CROP_SHARES = (0.0, 0.03, 0.06, 0.12, 0.25, 0.5)  # of the image; smaller boxes are cropped
ALWAYS_CROP = 10.0  # a share of the image that no box reaches
_BOX_SHIFT = 0.1  # of a box's sides, for the shifted boxes
AttemptName = Literal["crop", "shifted", "whole"]


@dataclass(frozen=True)
class FoldResult:
    """One out-of-fold mask of one object.

    patch_prior: whether it was used. instance: index of the object. attempt: from its true box by
    crops, from a shifted box by crops, or from its true box on the whole image. iou: with the true
    mask. quality: the mask's figures by name, see `calibration.measures`.
    """

    patch_prior: bool
    instance: NonNegativeInt
    attempt: AttemptName
    iou: FiniteFloat
    quality: dict[str, FiniteFloat]


_RESULTS = TypeAdapter(list[FoldResult])


def enough_photos(instances: Sequence[Instance], fold_count: int) -> bool:
    """Whether a cross-validation is wanted, and there are enough photos."""
    photos = len({instance.group for instance in instances})
    return fold_count >= 2 and photos >= max(fold_count, MIN_PHOTOS)


def cross_validate(
    tuner: SamTuner,
    instances: Sequence[Instance],
    examples: Sequence[Sequence[TrainingExample]],
    patches: Mapping[str, ForegroundBackground],
    fold_count: int,
    folder: Path,
    crop_below: float | None = None,
) -> list[FoldResult]:
    """The out-of-fold masks of every object, with and without the patch prior of the other photos.

    patches: by photo; empty for no patch prior. folder: it keeps the SAM of each fold, and its work
    log keeps finished folds for a run that goes on. crop_below: a fixed size, see `select_views`;
    masks on whole images are made only where they can be selected. Empty where there are too few
    photos.
    """
    if not enough_photos(instances, fold_count):
        return []
    fold_of = tuner.folds(instances, fold_count)
    always_crop = crop_below is not None and bool((_extents(instances) < crop_below).all())
    results: list[FoldResult] = []
    with WorkLog(folder / LOG, "folds", _RESULTS) as log:
        for fold in range(fold_count):
            train, test = (np.flatnonzero(m).tolist() for m in (fold_of != fold, fold_of == fold))
            fold_results = log.get(fold)
            if (
                fold_results is None
                or {result.instance for result in fold_results} != set(test)
                or not has_fold(folder, fold)
            ):
                title = f"tune SAM, fold {fold + 1} of {fold_count}"
                delta = tuner.of_fold(fold).fit([examples[index] for index in train], title)
                model = tuner.tuned(delta)
                groups = {instances[index].group for index in train}
                prior = fit_patch_prior(patches, groups, tuner.runtime.device, tuner.options.seed)
                write_fold(folder, fold, delta, prior)
                fold_results = _test(tuner, model, prior, instances, test, fold, always_crop)
                log.add(fold, fold_results)
            results += fold_results
    return results


def held_out_groups(
    tuner: SamTuner, instances: Sequence[Instance], fold_count: int
) -> list[list[str]]:
    """The groups that the SAM of each fold of `cross_validate` did not learn from; none where there
    are too few photos for it."""
    if not enough_photos(instances, fold_count):
        return []
    groups: list[set[str]] = [set() for _ in range(fold_count)]
    for instance, fold in zip(instances, tuner.folds(instances, fold_count), strict=True):
        groups[fold].add(instance.group)
    return [sorted(own) for own in groups]


def _test(
    tuner: SamTuner,
    model: SamModel,
    prior: PatchPrior | None,
    instances: Sequence[Instance],
    test: Sequence[int],
    fold: int,
    always_crop: bool,
) -> list[FoldResult]:
    """The masks of a fold's test objects, by every attempt, without and with the patch prior; none
    on whole images for `always_crop`."""
    test_instances = [instances[index] for index in test]
    attempts = _attempts(tuner, model, prior, test_instances, fold, always_crop)
    evaluations = evaluate_attempts([*attempts.values()], test_instances, "out of fold")
    rows = [
        {
            "patch_prior": with_prior,
            "instance": test[row],
            "attempt": name,
            "iou": round(float(iou), 5),
            "quality": {
                name: round(float(column[row]), 6) for name, column in evaluation.quality.items()
            },
        }
        for (with_prior, name), evaluation in zip(attempts, evaluations, strict=True)
        for row, iou in enumerate(evaluation.iou)
    ]
    return _RESULTS.validate_python(rows)


def _attempts(
    tuner: SamTuner,
    model: SamModel,
    prior: PatchPrior | None,
    test: Sequence[Instance],
    fold: int,
    always_crop: bool,
) -> dict[tuple[bool, AttemptName], Attempt]:
    """By whether the prior is used, and by name. All of them share what SAM predicts, to which the
    prior is only added."""
    views: dict[AttemptName, tuple[ViewOptions, Boxes]] = {
        "crop": (tuner.views, true_boxes(test)),
        "shifted": (tuner.views, perturb_boxes(test, "shift", _BOX_SHIFT, fold)),
    }
    if not always_crop:
        views["whole"] = (replace(tuner.views, crop_below=0.0), true_boxes(test))
    attempts = {}
    for name, (options, boxes) in views.items():
        plain = tuner.runtime.segmenter(model, options).remembering()
        attempts[False, name] = Attempt(plain, boxes)
        if prior:
            segmenter = plain.with_prior(prior.on(tuner.runtime.device))
            attempts[True, name] = Attempt(segmenter, boxes)
    return attempts


@dataclass(frozen=True)
class ViewSelection:
    """How the tuned SAM views objects, and what to expect of its masks.

    patch_prior: whether it is used. gain: mean IoU that it adds to out-of-fold masks, None where
    it was not tried. true: IoU (N,) of the out-of-fold masks from true boxes. expected: what
    calibrations on the other photos' masks expect of them.
    """

    views: ViewOptions
    patch_prior: bool = False
    gain: float | None = None
    calibration: Calibration | None = None
    true: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    expected: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))


def select_views(
    views: ViewOptions,
    crop_below: float | None,
    instances: Sequence[Instance],
    results: Sequence[FoldResult],
) -> ViewSelection:
    """Choose by out-of-fold IoU below which size objects are cropped, and whether the patch prior
    is used: if its gain is above the gain's standard error over photos. crop_below: a fixed size.
    """
    if not results:
        say("too few photos to calibrate: masks will carry no expected IoU")
        return ViewSelection(views)
    ious: dict[tuple[bool, str], NDArray[np.float64]] = defaultdict(
        lambda: np.zeros(len(instances))
    )
    for result in results:
        ious[result.patch_prior, result.attempt][result.instance] = result.iou
    extents = _extents(instances)
    sizes = (*_CROP_SHARES, ALWAYS_CROP) if crop_below is None else (crop_below,)

    def iou_at(prior: bool, size: float) -> NDArray[np.float64]:
        return np.where(extents < size, ious[prior, "crop"], ious[prior, "whole"])

    def best_size(prior: bool) -> float:
        return max(sizes, key=lambda size: (iou_at(prior, size).mean(), size))

    size, gain, use_prior = best_size(False), None, False
    if 2 * sum(result.patch_prior for result in results) == len(results):
        gains = iou_at(True, best_size(True)) - iou_at(False, size)
        gain = round(float(gains.mean()), 4)
        use_prior = bool(gain > _standard_error(gains, [one.group for one in instances]))
        size = best_size(use_prior)
    selected = [
        result
        for result in results
        if result.patch_prior == use_prior
        and (result.attempt == "whole") != (extents[result.instance] < size)
    ]
    selection = ViewSelection(replace(views, crop_below=size), use_prior, gain)
    return _calibrated(selection, instances, selected)


def _extents(instances: Sequence[Instance]) -> NDArray[np.float64]:
    """(N,) longer sides of the boxes as shares of the longer sides of their images."""
    return np.array([one.longer_side / max(one.record.size) for one in instances])


def _standard_error(values: NDArray[np.float64], groups: Sequence[str]) -> float:
    """Of the mean over groups."""
    means = [values[[name == one for one in groups]].mean() for name in sorted(set(groups))]
    return float(np.std(means, ddof=1) / len(means) ** 0.5)


def _calibrated(
    selection: ViewSelection, instances: Sequence[Instance], results: Sequence[FoldResult]
) -> ViewSelection:
    """Add the calibration that these out-of-fold masks give."""
    table = {
        name: np.array([result.quality.get(name, 0) for result in results], np.float32)
        for name in sorted(results[0].quality)
    }
    ious = [result.iou for result in results]
    groups = [instances[result.instance].group for result in results]
    categories = [instances[result.instance].category for result in results]
    from_true = [row for row, result in enumerate(results) if result.attempt != "shifted"]
    order = sorted(from_true, key=lambda row: results[row].instance)
    return replace(
        selection,
        calibration=calibrate(table, ious, categories),
        true=np.array(ious)[order],
        expected=cross_expected(table, ious, groups, categories)[order],
    )
