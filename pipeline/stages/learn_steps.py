"""The steps of `learn`: a set that has grown, models that learn on from the last ones, and labels
of the images that nobody has reviewed yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, JsonValue, TypeAdapter

from pipeline.config.schema import (
    CombineConfig,
    ConvertConfig,
    FinetuneConfig,
    FinetuneSamConfig,
    FinetuneSegmenterConfig,
    LearnConfig,
    SegmentConfig,
)
from pipeline.config.values import Config
from pipeline.errors import Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.datasets import read_datasets
from pipeline.formats.groups import NEAR_DUPLICATES, group_file
from pipeline.formats.grown_set import grown_set, with_known_groups, with_splits
from pipeline.formats.layouts.mask_folders import FolderListing
from pipeline.io.read import RUN_FILE, checked
from pipeline.io.run_record import RunRecord, read_run_file
from pipeline.io.steps import Step
from pipeline.io.work_log import LOG, WorkLog
from pipeline.metrics.operating_points import wish_of
from pipeline.reports.grouping import grouped
from pipeline.reports.labelled_images import (
    ImageCounts,
    LabelJob,
    label_alone,
    label_images,
    totals,
    write_labels,
)
from pipeline.results import StageResult
from pipeline.runners import PerProcess
from pipeline.runtime.progress import say
from pipeline.stages.combine import combine
from pipeline.stages.convert_masks import ConvertMasksResult, write_converted
from pipeline.stages.finetune_sam import finetune_sam
from pipeline.stages.finetune_segmenter import finetune_segmenter
from pipeline.stages.finetune_yolo import finetune_yolo
from pipeline.trust.cross_detection import OUT_OF_FOLD
from pipeline.types import Dataset

C = TypeVar("C", bound=Config)
_REVIEWED = "reviewed"  # in the settings of the grown set: how much was reviewed


class ReviewedCounts(BaseModel):
    """How much was learned from. sha256: of all that was reviewed."""

    sha256: str
    images: int
    masks: int
    boxes_alone: int


_COUNTS = TypeAdapter(ReviewedCounts)


@dataclass(frozen=True)
class ReviewedSet:
    """Finished images and their objects; see `ReviewedCounts`."""

    dataset: Dataset
    sha256: str
    images: int
    masks: int
    boxes_alone: int


def reviewed_counts(folder: Path) -> ReviewedCounts | None:
    """How much a generation learned from; None before its set is written, and of the run itself."""
    path = folder / "data"
    if not (path / RUN_FILE).is_file():
        return None
    counts = read_run_file(path).config.get(_REVIEWED)
    return None if counts is None else checked(_COUNTS, counts, path / RUN_FILE, _REVIEWED)


@dataclass(frozen=True, kw_only=True)
class NewLabelsResult(StageResult):
    """The labels of the images that were left to review."""

    output: Path
    images: int
    labels: int
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lesson:
    """run: the folder of the run. before: the last folder of each model, by its name. folder: of
    this generation. left: the images to label, with their ids in the session."""

    run: Path
    before: Mapping[str, Path]
    folder: Path
    left: Dataset
    config: LearnConfig
    device: str
    keep_going: bool
    overwrite: bool


def model_steps(lesson: Lesson) -> Iterator[Step]:
    """The steps after the set, in order, each when those before it are done."""
    data, config = lesson.folder / "data", lesson.config
    yield _segmenter(lesson, data)
    models = dict(lesson.before)
    if config.sam and "sam" in models:
        yield _sam(lesson, data)
        models["sam"] = lesson.folder / "sam"
    if config.detector and (lesson.run / "detector" / RUN_FILE).is_file():
        yield _detector(lesson, data)
        models["detector"] = lesson.folder / "detector"
    yield _labeller(lesson, data, models)
    labeller, output = lesson.folder / "labeller", lesson.folder / "labels"
    settings: dict[str, JsonValue] = {"images": [r.file_name for r in lesson.left.records]}
    yield Step("label", output, settings, [labeller], partial(label_left, lesson))


def write_grown(
    base: Path, output: Path, reviewed: ReviewedSet, faults: Faults
) -> ConvertMasksResult:
    """Write a folder of convert-masks: the images of one, and the reviewed ones in train."""
    config = settings_of(base, ConvertConfig)
    by = NEAR_DUPLICATES if group_file(config.group_by) else config.group_by
    config = config.model_copy(update={"group_by": by, "split_file": None})
    counts = ReviewedCounts(
        sha256=reviewed.sha256, images=reviewed.images, masks=reviewed.masks,
        boxes_alone=reviewed.boxes_alone,
    )  # fmt: skip
    settings: dict[str, JsonValue] = {
        **config.model_dump(mode="json"),
        _REVIEWED: counts.model_dump(),
    }
    record = RunRecord("convert-masks", settings, [base])
    known = read_datasets([base], faults)
    grown, learned = grown_set(known, reviewed.dataset)
    grouping = grouped(grown, by, [base / "images"])
    joined = with_known_groups(grown, grouping.dataset, len(known.records))
    dataset = with_splits(joined, learned)
    return write_converted(
        record, output, FolderListing(dataset), replace(grouping, dataset=dataset), config, faults
    )


def _segmenter(lesson: Lesson, data: Path) -> Step:
    start = lesson.before["segmenter"]
    config = settings_of(lesson.run / "segmenter", FinetuneSegmenterConfig).model_copy(
        update={"start": start, "steps": lesson.config.steps, "decoder_steps": None, "scale": None}
    )
    train = partial(
        finetune_segmenter, data, lesson.folder / "segmenter", config, device=lesson.device,
        keep_going=lesson.keep_going, overwrite=lesson.overwrite,
    )  # fmt: skip
    return _step("finetune-segmenter", lesson.folder / "segmenter", config, [data, start], train)


def _sam(lesson: Lesson, data: Path) -> Step:
    start = lesson.before["sam"]
    config = settings_of(lesson.run / "sam", FinetuneSamConfig).model_copy(
        update={"sam": str(start), "steps": lesson.config.sam_steps, "robustness": False}
    )
    tune = partial(
        finetune_sam, data, lesson.folder / "sam", config, device=lesson.device,
        keep_going=lesson.keep_going, overwrite=lesson.overwrite,
    )  # fmt: skip
    return _step("finetune-sam", lesson.folder / "sam", config, [data, start], tune)


def _detector(lesson: Lesson, data: Path) -> Step:
    config = settings_of(lesson.run / "detector", FinetuneConfig)
    train = partial(
        finetune_yolo, data, lesson.folder / "detector", config, device=lesson.device,
        keep_going=lesson.keep_going, overwrite=lesson.overwrite, replace_finished=True,
    )  # fmt: skip
    return _step("finetune-yolo", lesson.folder / "detector", config, [data], train)


def _labeller(lesson: Lesson, data: Path, models: Mapping[str, Path]) -> Step:
    config = settings_of(lesson.run / "labeller", CombineConfig)
    if "sam" in models and (models["sam"] / "folds").is_dir():
        config = config.model_copy(update={"sam": str(models["sam"])})
    elif "/" in config.sam:
        config = config.model_copy(update={"sam": ""})  # a tuned SAM that is gone
    detector, segmenter = _usable(models.get("detector"), data), lesson.folder / "segmenter"
    anomaly = models.get("anomaly_patchcore")
    fit = partial(
        combine, data, segmenter, lesson.folder / "labeller", config, detector=detector,
        anomaly=anomaly, device=lesson.device, keep_going=lesson.keep_going,
    )  # fmt: skip
    named = [Path(config.sam)] if config.sam and Path(config.sam).is_dir() else []
    inputs = [data, segmenter, *(path for path in (detector, anomaly) if path), *named]
    return _step("combine", lesson.folder / "labeller", config, inputs, fit)


def _usable(detector: Path | None, data: Path) -> Path | None:
    """The detector, if it has detections out of fold, of photos that the set has, and knows all
    categories of the set."""
    if detector is None or not (detector / OUT_OF_FOLD).is_file():
        return None
    found = read_coco(detector / OUT_OF_FOLD, data / "images")
    grown = read_coco(data / "annotations" / "instances.json", data / "images")
    one_for_all = len(found.categories) == 1
    knows_all = one_for_all or set(grown.categories) <= set(found.categories)
    names = {record.file_name for record in grown.records}
    if knows_all and all(record.file_name in names for record in found.records):
        return detector
    what = "categories" if not knows_all else "photos"
    say(f"the detector has other {what}: it is left out; --detector trains it again")
    return None


def label_left(lesson: Lesson) -> NewLabelsResult:
    """Label the images that are left to review, by the new labeller."""
    from pipeline.models.devices import torch_device
    from pipeline.proposals.labeller import load_labeller

    config = settings_of(lesson.run / "labels", SegmentConfig)
    output, model = lesson.folder / "labels", lesson.folder / "labeller"
    faults = Faults(lesson.keep_going)
    names = [record.file_name for record in lesson.left.records]
    settings: dict[str, JsonValue] = {**config.model_dump(mode="json"), "images": [*names]}
    record = RunRecord("label", settings, [model])
    wish = wish_of(config.recall, config.false_alarms, config.costs)
    labeller = load_labeller(model, torch_device(lesson.device), wish, config.confidence)
    dataset = Dataset(labeller.categories, lesson.left.records)
    with record.resumable_folder(output, overwrite=True) as folder:
        if finished := record.finished(folder, NewLabelsResult):
            return finished
        models = PerProcess(lambda: labeller)
        job = LabelJob(dataset, models, label_alone, folder, "label", False)
        with WorkLog(folder / LOG, "images", TypeAdapter(ImageCounts)) as log:
            label_images(job, log, faults)
            total = totals(log, ("expected_iou",))
            write_labels(job, log, 0)
        result = NewLabelsResult(
            output=output, images=total.images, labels=total.boxes, faults=faults.lines
        )
        record.write(folder, result)
    return result


def settings_of(folder: Path, kind: type[C]) -> C:
    """The settings of the command that wrote a folder; the defaults where it says none."""
    if not (folder / RUN_FILE).is_file():
        return kind()
    known = {
        key: value
        for key, value in read_run_file(folder).config.items()
        if key in kind.model_fields
    }
    return kind.model_validate(known)


def _step(
    name: str, folder: Path, config: Config, inputs: list[Path], work: Callable[[], StageResult]
) -> Step:
    return Step(name, folder, config.model_dump(mode="json"), inputs, work)
