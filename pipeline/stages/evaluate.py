"""`pipeline evaluate`: predictions against the truth, beside two baselines on the same boxes: the
filled box and GrabCut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.config.labels import EvaluateConfig
from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.coco import read_coco, read_coco_results
from pipeline.formats.coco_schema import coco_lists
from pipeline.formats.converted_set import leak_mark
from pipeline.formats.image_files import NamedFolders, leave_out_faulty, leave_out_unreadable
from pipeline.formats.source import SourceLog
from pipeline.formats.values import file_mode
from pipeline.interfaces import Segmenter
from pipeline.io.images import read_image, refuse_other_size, write_png
from pipeline.io.names import safe_component
from pipeline.io.run_record import RunRecord
from pipeline.metrics.evaluation import (
    GroupMean,
    MaskFigures,
    Precision,
    group_means,
    mask_figures,
    precision,
    rank_correlations,
    rounded_mean,
)
from pipeline.metrics.masks import Agreement, agreement
from pipeline.metrics.matching import Match, MatchedObjects, match_objects
from pipeline.reports.trust import FoundScore, expected_in, expected_of
from pipeline.results import StageResult
from pipeline.runtime.progress import say, track
from pipeline.types import Dataset, ImageRecord
from pipeline.visualization.overlays import close_up
from pipeline.visualization.plots import grouped_bars, reliability

_DEFAULT = EvaluateConfig()
_GALLERY = 6  # pictures of each rank


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Mean mask IoU on the same boxes without SAM, of all objects and by category."""

    mask_iou: float | None = None
    by_category: Mapping[str, GroupMean]


@dataclass(frozen=True, kw_only=True)
class EvaluateResult(MaskFigures, StageResult):
    """objects: in the truth. matched: pairs of a predicted and a true object. missed: true objects
    without partner. extra: predicted objects without partner. ignored: objects of the truth with
    `iscrowd` 1. As in COCOeval, they are in no other figure, and no prediction on them is extra.
    unscored: predictions without a score, and others on their images; the average precision takes
    them as 1.

    expected_iou: how that of the predictions holds, false alarms among them; None where they have
    none. with_out_of_fold: the same with the out-of-fold masks of a trust.
    rank_correlation_with_iou: Spearman's rho in [-1, 1] between each quality column of the
    predictions and the mask IoU. baselines: by name; None without images. The mask figures are None
    for files without masks. split_leaks: a mark of figures on images whose object is in training
    too. faults: a line for each image or object that was left out.
    """

    images: int
    objects: int
    matched: int
    missed: int
    extra: int
    ignored: int = 0
    unscored: int = 0
    average_precision: Precision
    expected_iou: FoundScore | None = None
    with_out_of_fold: FoundScore | None = None
    rank_correlation_with_iou: Mapping[str, float] | None = None
    baselines: Mapping[str, Baseline] | None = None
    faults: tuple[str, ...] = ()
    split_leaks: str | None = None


def evaluate(
    truth: Path,
    predictions: Path,
    output: Path | None = None,
    config: EvaluateConfig = _DEFAULT,
    *,
    images: Path | None = None,
    trust: Path | None = None,
    keep_going: bool = False,
) -> EvaluateResult:
    """Compare two COCO files: box and mask AP, and the mask IoU of matched objects.

    truth, predictions: COCO files; predictions have scores, and may be a list of COCO results.
    output: the folder for figures, a plot and a gallery; None writes nothing. images: the folder of
    images; without it, there are no baselines and no gallery. trust: the folder of calibrate that
    the predictions are of. keep_going: leave out faulty objects, and of every figure the images
    whose photo is missing or cannot be read; what is left out of the predictions counts as missed.
    Raises ConfigError for a split without images and for other categories, DataError for a file
    that cannot be read and for predictions on other images.
    """
    faults = Faults(keep_going)
    selected = _selected(truth, config, images, faults)
    matched = match_objects(selected, _read_predictions(predictions, truth, images, faults))
    agreed = agreement(*matched.masks(matched.matches)) if matched.has_masks else None
    result = _result(matched, agreed, config, images, faults)
    _say_exceptions(result)
    expected = expected_of(matched) if matched.has_masks else None
    if expected:
        earlier = expected_in(trust) if trust else None
        both = (earlier + expected).score if earlier else None
        result = replace(result, expected_iou=expected.score, with_out_of_fold=both)
    if truth.parent.name == "annotations":
        result = replace(result, split_leaks=leak_mark(truth.parent.parent))
    if output:
        reads = (truth, predictions, trust)
        record = RunRecord("evaluate", config.model_dump(mode="json"), reads)
        with record.whole_folder(output) as folder:
            if expected:
                pairs = {"masks": (expected.expected, expected.true)}
                reliability(folder / "reliability.png", pairs)
            if agreed is not None:
                _plot(folder, result)
                if images:
                    _write_gallery(folder / "gallery", matched, agreed.iou.tolist())
            record.write(folder, result.to_json())
    return result


def _say_exceptions(result: EvaluateResult) -> None:
    """Say which objects are not counted as all others are."""
    if result.ignored:
        say(f"{result.ignored} objects of the truth have iscrowd 1: ignored, as in COCOeval")
    if result.unscored:
        say(
            f"{result.unscored} predictions have no score, or share an image with one that has "
            "none: average precision takes each score as 1"
        )


def _read_predictions(path: Path, truth: Path, images: Path | None, faults: Faults) -> Dataset:
    """Predictions: COCO instances, or a list of COCO results on the images of the truth."""
    log = SourceLog(faults)
    if coco_lists(path).is_list:
        return read_coco_results(path, truth, images, log, exact=True)
    return read_coco(path, images, log, exact=True)


def _result(
    matched: MatchedObjects,
    agreed: Agreement | None,
    config: EvaluateConfig,
    images: Path | None,
    faults: Faults,
) -> EvaluateResult:
    truth = matched.truth
    figures = MaskFigures() if agreed is None else mask_figures(matched, agreed)
    ious: list[float] = [] if agreed is None else agreed.iou.tolist()
    return EvaluateResult(
        **vars(figures),
        images=len(truth.records),
        objects=sum(len(truth.on(record)) for record in truth.records) - matched.ignored,
        matched=len(matched.matches),
        missed=matched.missed,
        extra=matched.extra,
        ignored=matched.ignored,
        unscored=_unscored(matched),
        average_precision=precision(matched),
        rank_correlation_with_iou=rank_correlations(matched, ious) or None,
        baselines=_baselines(matched, config) if agreed and images else None,
        faults=faults.lines,
    )


def _unscored(matched: MatchedObjects) -> int:
    """How many predictions have no score that counts."""
    return sum(len(each) for each in matched.predictions.values() if each.scores is None)


def _selected(path: Path, config: EvaluateConfig, images: Path | None, faults: Faults) -> Dataset:
    """The images of the truth in the split of the configuration. Raises DataError for an image
    outside the folder of images, and for a photo of another size."""
    truth = read_coco(path, images, SourceLog(faults), exact=True)
    if config.split:
        records = [record for record in truth.records if record.split == config.split]
        if not records:
            splits = ", ".join(sorted({record.split or "none" for record in truth.records})[:10])
            raise ConfigError(f"split {config.split}: {path} has no such image; it has {splits}")
        truth = truth.subset(records)
    if images:
        folders = NamedFolders([images], config.allow_outside)

        def check(record: ImageRecord) -> None:
            folders.refuse_outside(record.path)
            if file_mode(record.path):
                refuse_other_size(record.path, record.size)

        truth = leave_out_unreadable(leave_out_faulty(truth, check, faults), faults)
    if faults.errors and not truth.records:
        raise DataError(path, f"no image is left ({faults.lines[0]})", "check --images")
    return truth


def _baselines(matched: MatchedObjects, config: EvaluateConfig) -> dict[str, Baseline]:
    """Mean mask IoU on the same boxes without SAM."""
    from pipeline.models.baselines import BoxFillSegmenter, GrabCutSegmenter

    segmenters: dict[str, Segmenter] = {"box_fill": BoxFillSegmenter()}
    if config.grabcut:
        segmenters["grabcut"] = GrabCutSegmenter()
    ious: dict[str, list[float]] = {name: [] for name in segmenters}
    by_image: dict[int, list[Match]] = {}
    for pair in matched.matches:
        by_image.setdefault(pair.record.id, []).append(pair)
    for group in track(list(by_image.values()), "baselines"):
        image = read_image(group[0].record.path)
        rows = [pair.predicted for pair in group]
        boxes = matched.predictions[group[0].record.id].boxes[rows]
        _, true = matched.masks(group)
        for name, segmenter in segmenters.items():
            ious[name] += agreement(segmenter.segment(image, boxes).masks, true).iou.tolist()
    categories = [matched.category(pair) for group in by_image.values() for pair in group]
    return {
        name: Baseline(mask_iou=rounded_mean(values), by_category=group_means(categories, values))
        for name, values in ious.items()
    }


def _plot(folder: Path, result: EvaluateResult) -> None:
    def means(groups: Mapping[str, GroupMean] | None) -> dict[str, float]:
        return {name: group.mean for name, group in (groups or {}).items()}

    series = {"SAM": means(result.mask_iou_by_category)}
    for name, baseline in (result.baselines or {}).items():
        series[name.replace("_", " ")] = means(baseline.by_category)
    grouped_bars(folder / "mask_iou.png", "mask IoU on the same boxes", series)


def _write_gallery(folder: Path, matched: MatchedObjects, ious: Sequence[float]) -> None:
    """Write close-ups of the best, the typical and the worst masks; each file name has the IoU."""
    order = np.argsort(ious, kind="stable")
    middle = max(0, len(order) // 2 - _GALLERY // 2)
    for name, rows in (
        ("worst", order[:_GALLERY]),
        ("typical", order[middle : middle + _GALLERY]),
        ("best", order[::-1][:_GALLERY]),
    ):
        for rank, row in enumerate(rows):
            pair = matched.matches[row]
            (predicted,), (true,) = matched.masks([pair])
            box = matched.truth.on(pair.record).boxes[pair.true]
            picture = close_up(read_image(pair.record.path), predicted, true, box)
            stem = f"{name}_{rank}_{ious[row]:.2f}_{matched.category(pair)}"
            write_png(folder / safe_component(stem, ".png"), picture)
