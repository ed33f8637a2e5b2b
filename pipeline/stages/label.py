"""`pipeline label`: COCO labels for a folder of images, by a labeller or by an anomaly model.

A labeller of `combine` joins all finders. For images of a product without any label, an anomaly
model finds boxes, and `segment` makes masks from them. With a truth, `evaluate` compares the labels
with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from pipeline.config.schema import EvaluateConfig, SegmentConfig
from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.listed_images import listed_images
from pipeline.formats.source import SourceLog
from pipeline.io.run_record import RunRecord
from pipeline.io.work_log import LOG, WorkLog
from pipeline.metrics.label_quality import LabelQuality, compare_labels, label_quality
from pipeline.metrics.localization import Localization, localization
from pipeline.metrics.matching import match_objects
from pipeline.metrics.operating_points import OperatingPoint, Wish, wish_of
from pipeline.reports.labelled_images import (
    ImageCounts,
    LabelJob,
    label_alone,
    label_images,
    totals,
    write_labels,
)
from pipeline.results import StageResult
from pipeline.runners import PerProcess, Runner, check_runner
from pipeline.stages.evaluate import EvaluateResult, evaluate
from pipeline.stages.segment import SegmentResult, segment
from pipeline.types import Dataset, Detections

if TYPE_CHECKING:
    from pipeline.proposals.labeller import Labeller

_DEFAULT = SegmentConfig(tighten=True)
INSTANCES = "instances.json"


@dataclass(frozen=True, kw_only=True)
class LabelledResult(StageResult):
    """The labels of a labeller, or of an anomaly model and SAM. finders: the models.
    expected_iou_mean: None without a label, and where nothing is calibrated. operating_point: the
    confidence and what it reaches; None where that is not known. quality: how good the labels are,
    defect by defect; None without a truth."""

    output: Path
    finders: tuple[str, ...]
    images: int
    labels: int
    pixels_lost_to_overlap_in_png: int
    expected_iou_mean: float | None = None
    operating_point: OperatingPoint | None = None
    quality: LabelQuality | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LabelResult(StageResult):
    """segment: the result of that stage, where an anomaly model labels. With a truth: localization,
    whether labels and defects overlap; evaluation, the result of `evaluate`."""

    labels: LabelledResult
    segment: SegmentResult | None = None
    localization: Localization | None = None
    evaluation: EvaluateResult | None = None


def label(
    model: Path,
    images: Path,
    output: Path,
    config: SegmentConfig = _DEFAULT,
    *,
    device: str = "auto", truth: Path | None = None, trust: Path | None = None,
    keep_going: bool = False, overwrite: bool = False, runner: Runner = "local", workers: int = 1,
) -> LabelResult:  # fmt: skip
    """Label a folder of images, or the images that `truth` lists.

    model: folder of combine, of finetune-segmenter, or of anomaly. Writes what `segment` writes
    into `output`. Of an anomaly model, the box of an object is the box of its mask, with
    `config.tighten`; trust: folder of calibrate for this pair. truth: a COCO file with masks; with
    it, what `evaluate` writes goes into `output`/evaluation. runner, workers: see `segment`. A
    stopped call goes on when it is repeated. Raises what `segment` and `evaluate` raise,
    ConfigError for settings of SAM that a labeller has itself.
    """
    from pipeline.models.artifact import model_kind

    check_runner(runner, workers)
    kind = model_kind(model)
    if kind in ("labeller", "segmenter"):
        labels = _labelled(
            model, images, output, config, device, truth, keep_going, overwrite, runner, workers
        )
        result = LabelResult(labels=labels)
    elif kind is None:
        raise DataError(model, "holds no model", "give a folder of combine, or of anomaly")
    else:
        masks = segment(
            images, output, config, device=device, boxes=truth, detector=model, trust=trust,
            keep_going=keep_going, overwrite=overwrite, runner=runner, workers=workers,
        )  # fmt: skip
        labels = LabelledResult(
            output=output,
            finders=("anomaly", "sam"),
            images=masks.images,
            labels=masks.boxes - masks.failed,
            pixels_lost_to_overlap_in_png=masks.pixels_lost_to_overlap_in_png,
            expected_iou_mean=masks.expected_iou_mean,
            operating_point=masks.operating_point,
            faults=masks.faults,
        )
        result = LabelResult(labels=labels, segment=masks)
    if truth is None:
        return result
    return _evaluated(result, truth, images, output, config, keep_going)


def _labelled(
    model: Path, images: Path, output: Path, config: SegmentConfig, device: str,
    truth: Path | None, keep_going: bool, overwrite: bool, runner: Runner, workers: int,
) -> LabelledResult:  # fmt: skip
    """The labels of a labeller."""
    if config.views.model_dump(exclude_none=True) or config.heatmaps:
        raise ConfigError(f"{model}: has its own SAM; leave out the options of views and heat maps")
    faults = Faults(keep_going)
    dataset = listed_images(images, truth, config.split, config.allow_outside, faults)
    record = RunRecord("label", config.model_dump(mode="json"), [images, truth, model])
    wish = wish_of(config.recall, config.false_alarms, config.costs)
    models = PerProcess(partial(_load, model, device, wish, config))
    labeller = models.get()
    dataset = replace(dataset, categories=labeller.categories, objects={})
    with record.resumable_folder(output, overwrite) as folder:
        if finished := record.finished(folder, LabelledResult):
            return finished
        job = LabelJob(dataset, models, label_alone, folder, "label", config.overlays)
        with WorkLog(folder / LOG, "images", TypeAdapter(ImageCounts)) as log:
            label_images(job, log, faults, runner, workers)
            total = totals(log, ("expected_iou",))
            write_labels(job, log, config.review)
        quality = None
        if truth is not None:
            known = _known(truth, images, config, keep_going)
            quality = _quality(known, read_coco(folder / INSTANCES, images, exact=True))
        result = LabelledResult(
            output=output,
            finders=("segmenter", *labeller.known.finders),
            images=total.images,
            labels=total.boxes,
            pixels_lost_to_overlap_in_png=total.lost,
            expected_iou_mean=total.means.get("expected_iou"),
            operating_point=labeller.point,
            quality=quality,
            faults=faults.lines,
        )
        record.write(folder, result)
    return result


def _load(model: Path, device: str, wish: Wish | None, config: SegmentConfig) -> Labeller:
    """The labeller of one process, on its own device."""
    from pipeline.models.devices import torch_device
    from pipeline.proposals.labeller import load_labeller

    return load_labeller(
        model, torch_device(device), wish, config.confidence, config.backend, config.cache_gb
    )


def _evaluated(
    result: LabelResult,
    truth: Path,
    images: Path,
    output: Path,
    config: SegmentConfig,
    keep_going: bool,
) -> LabelResult:
    """The result with what a truth says of the labels."""
    predictions = output / INSTANCES
    evaluation = evaluate(
        truth, predictions, output / "evaluation", EvaluateConfig(split=config.split),
        images=images, keep_going=keep_going,
    )  # fmt: skip
    known = _known(truth, images, config, keep_going)
    labels = read_coco(predictions, images, exact=True)
    made = result.labels
    if made.quality is None:
        made = replace(made, quality=_quality(known, labels))
    return replace(
        result,
        labels=made,
        localization=localization(known, labels, config.split),
        evaluation=evaluation,
    )


def _known(truth: Path, images: Path, config: SegmentConfig, keep_going: bool) -> Dataset:
    """The true objects of the images that are labelled."""
    known = read_coco(truth, images, SourceLog(Faults(keep_going)), exact=True)
    if config.split:
        known = known.subset([r for r in known.records if r.split == config.split])
    return known


def _quality(known: Dataset, labels: Dataset) -> LabelQuality:
    """The labels of all images, defect by defect."""
    matched = match_objects(known, labels)
    return label_quality(
        [
            compare_labels(
                matched.truth.on(record),
                matched.predictions.get(record.id, Detections.none()),
                matched.truth.categories,
                record.group or record.file_name,
            )
            for record in matched.truth.records
        ]
    )
