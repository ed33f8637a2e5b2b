"""`pipeline finetune-yolo`: YOLO-World learns a product's defects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter

from pipeline.config.schema import FinetuneConfig
from pipeline.errors import ConfigError, Faults
from pipeline.formats.converted_set import leak_mark
from pipeline.formats.yolo_training import TrainingSet, read_training_set, write_training_set
from pipeline.interfaces import Detector
from pipeline.io.images import read_image
from pipeline.io.manifest import WORK
from pipeline.io.read import RUN_FILE, sha256_of
from pipeline.io.run_record import RunRecord
from pipeline.io.work_log import LOG, WorkLog
from pipeline.metrics.detection import average_precision, best_confidence
from pipeline.models.weights.store import Weights, WeightsStore
from pipeline.reports.detection import BoxScores, box_scores, epochs_of
from pipeline.results import StageResult, from_json
from pipeline.runtime.progress import say, track
from pipeline.trust.cross_detection import (
    MAX_BOXES,
    MIN_CONFIDENCE,
    Learn,
    detect_out_of_fold,
    learned_images,
    same_steps,
)
from pipeline.types import Dataset, Detections
from pipeline.visualization.plots import training_curves

if TYPE_CHECKING:
    from pipeline.models.text.embeddings import TextEmbeddings

_DEFAULT = FinetuneConfig()

_DEFAULT_CONFIDENCE = 0.25
_LEAST_OUT_OF_FOLD = 0.05  # fainter scores of detectors that learned from fewer images are lower
_MIN_CONFIDENCE = 0.001  # AP needs the whole curve of precision over recall
_DATASET = f"{WORK}/dataset"  # all that ultralytics reads of the data


@dataclass(frozen=True)
class HeldOut:
    """Images that the detector did not learn from, and the objects on them."""

    images: int
    instances: int


@dataclass(frozen=True, kw_only=True)
class FinetuneYoloResult(StageResult):
    """The detector, and its box AP on the held-out split before and after.

    text_embeddings: clip, or fixed if CLIP's text encoder is not installed. confidence: the score
    below which detections are left out. confidence_chosen_on: the images that it was chosen on;
    None for the default. out_of_fold: of the detections of `config.folds`. split_leaks: a mark of
    figures on held-out images whose object is in training too. faults: a line for each image or
    object that was left out.
    """

    output: Path
    weights: str
    text_embeddings: str
    confidence: float
    confidence_chosen_on: HeldOut | None = None
    epochs_run: int
    out_of_fold: BoxScores | None = None
    held_out: HeldOut
    zero_shot: BoxScores
    tuned: BoxScores
    faults: tuple[str, ...] = ()
    split_leaks: str | None = None


_SCORES_TYPE = TypeAdapter(BoxScores)
Tests = tuple[Dataset, Mapping[int, Detections]]  # truth, and detections by image id


def finetune_yolo(
    data: Path,
    output: Path,
    config: FinetuneConfig = _DEFAULT,
    *,
    device: str = "auto",
    keep_going: bool = False,
    overwrite: bool = False,
    replace_finished: bool = False,
) -> FinetuneYoloResult:
    """Fine-tune on the annotations and images that convert-masks wrote into `data`. The same call
    goes on after a stop.

    keep_going: leave out unreadable images and faulty objects. overwrite: delete unfinished work of
    other settings, and replace a finished run; with `replace_finished`, only the latter. Raises
    DataError for a folder that convert-masks did not write and for an output with other content,
    ConfigError for an output with a finished run of other settings or inputs, WeightsError.
    """
    from pipeline.models.devices import choose_device, seed_all
    from pipeline.models.text.embeddings import embed
    from pipeline.models.yolo_world.detector import saved_text_embeddings

    device_name = choose_device(device)
    reads = [data / "annotations", data / "images"]
    if config.folds == 1:
        raise ConfigError("folds 1: at least 2 are needed, or 0 for none")
    record = RunRecord("finetune-yolo", config.model_dump(mode="json"), reads)
    faults = Faults(keep_going)
    splits = read_training_set(data, config.fold, faults)
    seed_all(config.seed)
    base = WeightsStore().get(config.weights)
    record.used_weights(base.name, base.sha256)
    if (output / RUN_FILE).is_file() and not (overwrite or replace_finished):
        return _finished_before(record, output)
    truth = _merged(splits.truth, config.merge_classes)
    reference = saved_text_embeddings(base.path)
    embeddings = embed(truth.categories, reference, config.text, WeightsStore())
    if embeddings.kind == "fixed":
        say("CLIP's text encoder is not installed: category names have fixed random embeddings.")
        say("Zero-shot figures are then of no use; training is not affected.")
    with record.resumable_folder(output, overwrite) as folder:
        if summary := record.finished(folder):
            return from_json(FinetuneYoloResult, summary, folder)
        result = _tuned(folder, splits, truth, base, embeddings, config, device_name, overwrite)
        mark = leak_mark(data)
        result = replace(result, output=output, faults=faults.lines, split_leaks=mark)
        record.write(folder, result.to_json())
    return result


def _finished_before(record: RunRecord, output: Path) -> FinetuneYoloResult:
    """The result of the same call, if it is finished."""
    summary = record.finished_before(output)
    if summary is None:
        raise ConfigError(
            f"{output}: holds a finished run of other settings or inputs; add --overwrite or "
            "change --output"
        )
    say(f"{output}: this run is finished; --overwrite repeats it")
    return from_json(FinetuneYoloResult, summary, output)


def _tuned(
    folder: Path,
    splits: TrainingSet,
    truth: Dataset,
    base: Weights,
    embeddings: TextEmbeddings,
    config: FinetuneConfig,
    device: str,
    overwrite: bool,
) -> FinetuneYoloResult:
    """Train in `folder`, and write the detector's card."""
    from pipeline.models.yolo_world.detector import YoloWorldDetector, embeddings_file, write_card

    embeddings.save(embeddings_file(folder))
    zero_shot = _zero_shot(folder, base, embeddings, truth, config, device)
    best = _train(folder, splits, base, config, device, overwrite)
    side = config.image_side
    detector = YoloWorldDetector(best, embeddings, side, _MIN_CONFIDENCE, device=device)

    def learn(run: Path, part: TrainingSet) -> Detector:
        embeddings.save(embeddings_file(run))
        steps = {n: same_steps(getattr(config, n), splits, part) for n in ("epochs", "patience")}
        own = _train(run, part, base, config.model_copy(update=steps), device, overwrite)
        return YoloWorldDetector(
            own, embeddings, side, MIN_CONFIDENCE, device=device, max_boxes=MAX_BOXES
        )

    tests = _out_of_fold(folder, splits, truth.categories, config, learn)
    confidence, chosen_on = _confidence(tests or _validation(splits, config, detector))
    if tests:
        confidence = max(confidence, _LEAST_OUT_OF_FOLD)
    on = {"images": chosen_on.images, "boxes": chosen_on.instances} if chosen_on else None
    write_card(folder, best, sha256_of(best), side, base.name, confidence, on)
    tuned = average_precision(truth, _detect(detector, truth, "detect, tuned"), "bbox")
    rows = epochs_of(folder / "train" / "results.csv")
    training_curves(folder / "curves.png", rows)
    return FinetuneYoloResult(
        output=folder,
        weights=base.name,
        text_embeddings=embeddings.kind,
        confidence=round(confidence, 4),
        confidence_chosen_on=chosen_on,
        epochs_run=len(rows),
        out_of_fold=box_scores(average_precision(*tests, "bbox")) if tests else None,
        held_out=_count(truth),
        zero_shot=zero_shot,
        tuned=box_scores(tuned),
    )


def _out_of_fold(
    folder: Path,
    splits: TrainingSet,
    categories: tuple[str, ...],
    config: FinetuneConfig,
    learn: Learn,
) -> Tests | None:
    """The out-of-fold detections, with the truth."""
    if not config.folds:
        return None
    found = detect_out_of_fold(folder, splits, categories, config.folds, config.seed, learn)
    if found is None:
        return None
    return _merged(learned_images(splits), config.merge_classes), found.objects


def _validation(splits: TrainingSet, config: FinetuneConfig, detector: Detector) -> Tests | None:
    """The detections on the validation images, with the truth."""
    if splits.validation is None:
        return None
    validation = _merged(splits.validation, config.merge_classes)
    return validation, _detect(detector, validation, "choose confidence")


def _confidence(tests: Tests | None) -> tuple[float, HeldOut | None]:
    """The score below which detections are left out, and what it was chosen on: 0.25, or a lower
    one that is better there. Never a higher one, which few images do not justify.
    """
    best = best_confidence(*tests) if tests else None
    if tests is None or best is None:
        return _DEFAULT_CONFIDENCE, None
    return min(best, _DEFAULT_CONFIDENCE), _count(tests[0])


def _count(truth: Dataset) -> HeldOut:
    return HeldOut(len(truth.records), sum(len(truth.on(record)) for record in truth.records))


def _merged(truth: Dataset, merge: bool) -> Dataset:
    if not merge:
        return truth
    objects = {
        key: replace(detections, labels=np.zeros_like(detections.labels))
        for key, detections in truth.objects.items()
    }
    return Dataset(("defect",), truth.records, objects)


def _zero_shot(
    folder: Path,
    base: Weights,
    embeddings: TextEmbeddings,
    truth: Dataset,
    config: FinetuneConfig,
    device: str,
) -> BoxScores:
    """Box AP of the published weights, measured once and kept in the work log."""
    from pipeline.models.yolo_world.detector import YoloWorldDetector

    with WorkLog(folder / LOG, "zero_shot", _SCORES_TYPE) as log:
        if (measured := log.get("figures")) is not None:
            return measured
        side = config.image_side
        detector = YoloWorldDetector(base.path, embeddings, side, _MIN_CONFIDENCE, device=device)
        detections = _detect(detector, truth, "detect, zero-shot")
        scores = box_scores(average_precision(truth, detections, "bbox"))
        log.add("figures", scores)
    return scores


def _detect(detector: Detector, truth: Dataset, title: str) -> dict[int, Detections]:
    return {
        record.id: detector.detect(read_image(record.path))
        for record in track(truth.records, title)
    }


def _train(
    folder: Path,
    splits: TrainingSet,
    base: Weights,
    config: FinetuneConfig,
    device: str,
    overwrite: bool,
) -> Path:
    """Train, or go on after the last whole epoch; returns the best weights."""
    from pipeline.models.yolo_world.options import options_of
    from pipeline.models.yolo_world.resume import is_trained
    from pipeline.models.yolo_world.trainer import train

    last, best = (folder / "train" / "weights" / f"{name}.pt" for name in ("last", "best"))
    if not is_trained(folder, config.epochs, overwrite):
        yaml = write_training_set(folder / _DATASET, splits)
        train(folder, yaml, base.path, options_of(config.model_dump()), device)
    return best if best.is_file() else last
