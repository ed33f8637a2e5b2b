"""`pipeline combine`: the finders of a product become one labeller.

On each labelled photo the candidates are of models that did not learn from it. Compared with the
truth, they say which finders gain, whose masks are better, how probable each candidate is, and how
good its mask.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, TypeAdapter

from pipeline.config.schema import CombineConfig
from pipeline.errors import Faults
from pipeline.formats.converted_set import leak_mark
from pipeline.io.run_record import RunRecord, folder_of
from pipeline.io.write import write_json
from pipeline.metrics.found_masks import TESTED_MASKS, TestedMask
from pipeline.metrics.label_quality import LabelQuality
from pipeline.metrics.operating_points import MeanInterval, operating_point
from pipeline.proposals.choices import Finder, Gain, NamingGain, Refinement
from pipeline.reports.trust import (
    FoundScore,
    ProbabilityScore,
    found_score,
    probability_score,
)
from pipeline.results import StageResult
from pipeline.runtime.progress import say
from pipeline.visualization.plots import reliability_panels

if TYPE_CHECKING:
    from pipeline.models.segmentation.model import DefectSegmenter
    from pipeline.proposals.card import LabellerKnowledge
    from pipeline.proposals.fit import LabelledImage, LabellerFit
    from pipeline.proposals.out_of_fold import OutOfFoldFinders

_DEFAULT = CombineConfig()


@dataclass(frozen=True, kw_only=True)
class CombineResult(StageResult):
    """What the labels of the labeller are worth, on photos that none of its models learned from.

    finders: those that are used beside the segmenter; gains: what each that was given adds.
    refinement: where SAM's mask replaces the segmenter's. naming: whether a category follows from
    all that is on the photo, and what that gains. labels: at the chosen confidence.
    expected_iou, name_probability: how those of the labels hold. recall, false_alarms: what the
    confidence reaches. All these are empty where candidates are too few. split_leaks, faults: as in
    `finetune_yolo`.
    """

    output: Path
    photos: int
    candidates: int
    finders: tuple[Finder, ...] = ()
    gains: dict[Finder, Gain] = field(default_factory=dict)
    refinement: Refinement | None = None
    naming: NamingGain | None = None
    confidence: float
    labels: LabelQuality | None = None
    expected_iou: FoundScore | None = None
    name_probability: ProbabilityScore | None = None
    recall: MeanInterval | None = None
    false_alarms: MeanInterval | None = None
    split_leaks: str | None = None
    faults: tuple[str, ...] = ()


def combine(
    data: Path,
    segmenter: Path,
    output: Path,
    config: CombineConfig = _DEFAULT,
    *,
    detector: Path | None = None,
    anomaly: Path | None = None,
    device: str = "auto",
    keep_going: bool = False,
) -> CombineResult:
    """Learn from train and val of a folder of convert-masks how to join the finders, and write a
    labeller, which holds copies of the models that gain.

    segmenter: folder of finetune-segmenter with folds. config.sam: a SAM, tuned with folds or
    published; "" for none. detector: folder of finetune-yolo with folds. anomaly: folder of
    anomaly. With too few candidates the labels are the segmenter's own. Raises ConfigError for
    models without folds.
    """
    from pipeline.models.devices import torch_device
    from pipeline.proposals.card import SEGMENTER, knowledge
    from pipeline.proposals.out_of_fold import SamOptions, load_out_of_fold

    faults = Faults(keep_going)
    tuned = folder_of(config.sam) if config.sam else None
    reads = [
        data / "annotations", data / "images", segmenter, tuned, detector, anomaly,
    ]  # fmt: skip
    record = RunRecord("combine", config.model_dump(mode="json"), reads)
    sam = SamOptions(config.sam, config.backend, config.cache_gb)
    finders = load_out_of_fold(
        data, segmenter, sam, detector, anomaly, torch_device(device), faults
    )
    images = finders.search(data, faults)
    fit = _fit(images, finders)
    with record.whole_folder(output) as folder:
        sources = {"sam": tuned, "detector": detector, "anomaly": anomaly}
        published = None if tuned else config.sam
        own = finders.segmenter
        known = knowledge(fit, own.categories, published, own.confidence)
        _copy(folder, known, {SEGMENTER: segmenter, **sources})
        result = _written(folder, images, fit, own)
        result = replace(result, output=output, split_leaks=leak_mark(data), faults=faults.lines)
        record.write(folder, result)
    return result


def _fit(images: Sequence[LabelledImage], finders: OutOfFoldFinders) -> LabellerFit | None:
    from pipeline.proposals.fit import MIN_CANDIDATES, MIN_PHOTOS, fit_labeller

    fit = fit_labeller(images, finders.segmenter.categories, finders.names)
    if fit is None:
        say(
            f"{sum(len(image.candidates) for image in images)} candidates on "
            f"{sum(bool(image.candidates) for image in images)} photos are too few to learn from, "
            f"{MIN_CANDIDATES} on {MIN_PHOTOS} are needed: labels are the segmenter's own, without "
            "an expected IoU"
        )
    return fit


def _copy(folder: Path, known: LabellerKnowledge, sources: Mapping[str, Path | None]) -> None:
    """Copy the models that are used, and write the card."""
    from pipeline.proposals.card import SEGMENTER, write_labeller

    left_out = shutil.ignore_patterns("folds", "*.png", "*.sqlite*", "heatmaps", "overlays")
    for name, source in sources.items():
        if source is not None and name in (SEGMENTER, *known.finders):
            shutil.copytree(source, folder / name, ignore=left_out)
    write_labeller(folder, known)


def _written(
    folder: Path,
    images: Sequence[LabelledImage],
    fit: LabellerFit | None,
    segmenter: DefectSegmenter,
) -> CombineResult:
    """Write what was tested, and return the result."""
    result = CombineResult(
        output=folder,
        photos=len(images),
        candidates=sum(len(image.candidates) for image in images),
        confidence=segmenter.confidence,
    )
    if fit is None:
        return result
    groups = [image.group for image in fit.images for _ in image.candidates]
    kept = np.flatnonzero(fit.tested_probability >= fit.confidence)
    own = [groups[row] for row in kept]
    point = operating_point(fit.outcomes, fit.confidence).reached
    expected, true = fit.tested_iou[kept], fit.true_iou[kept]
    if len(kept):
        panels = {"labels": {"found masks": (expected, true)}}
        reliability_panels(folder / "reliability_found.png", panels)
    write_json(folder / TESTED_MASKS, _tested_rows(fit, kept, segmenter.categories))
    if not fit.finders:
        say("no finder gains beside the segmenter: the labels are its own")
    return replace(
        result,
        finders=fit.finders,
        gains=dict(fit.gains),
        refinement=fit.refinement,
        naming=fit.naming_gain,
        confidence=fit.confidence,
        labels=fit.quality,
        expected_iou=found_score(expected, true, own) if len(kept) else None,
        name_probability=probability_score(fit.tested_name[kept], fit.is_named[kept])
        if len(kept)
        else None,
        recall=point.recall,
        false_alarms=point.false_alarms,
    )


def _tested_rows(
    fit: LabellerFit, kept: NDArray[np.int64], categories: Sequence[str]
) -> list[dict[str, JsonValue]]:
    """The out-of-fold labels as `TestedMask`, for `evaluate --trust`."""
    rows = [(image.group, row.label) for image in fit.images for row in image.candidates]
    tested = [
        TestedMask(
            rows[n][0],
            categories[rows[n][1]],
            round(float(fit.true_iou[n]), 4),
            round(float(fit.tested_iou[n]), 4),
            round(float(fit.tested_probability[n]), 4),
        )
        for n in kept.tolist()
    ]
    dumped: list[dict[str, JsonValue]] = TypeAdapter(list[TestedMask]).dump_python(
        tested, mode="json"
    )
    return dumped
