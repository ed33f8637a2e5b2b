"""`pipeline study`: several classifiers on the same folds, in one table.

Each image is tested on once in a repeat. A paired test tells which differences are significant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, TypeAdapter
from typing_extensions import TypedDict

from pipeline.config.schema import ClassifyConfig, StudyConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.products import image_categories, read_product
from pipeline.io.images import read_image
from pipeline.io.read import RUN_FILE
from pipeline.io.run_record import RunRecord
from pipeline.io.work_log import LOG, WorkLog
from pipeline.io.write import write_json, write_text
from pipeline.metrics.experiments import (
    Difference,
    ExperimentScores,
    Fold,
    FoldedImages,
    FoldedPredictions,
    accuracy_differences,
    experiment_scores,
)
from pipeline.reports.study import plot_accuracies, study_tables
from pipeline.results import StageResult, from_json
from pipeline.runtime.progress import track
from pipeline.splits import folds, long_tail
from pipeline.types import ImageRecord


class LoggedFold(TypedDict):
    """Predicted label of each test image of a fold, and the weights that the backbone starts
    from."""

    predictions: Annotated[list[NonNegativeInt], Field(min_length=1)]
    weights: str


_PREDICTIONS = TypeAdapter(LoggedFold)


@dataclass(frozen=True, kw_only=True)
class StudyResult(StageResult):
    """Experiments by name on the same folds.

    learned_from: mean number of training images of each category in a fold. differences: of each
    pair of experiments, the later minus the earlier. faults: errors of images that were left out.
    """

    output: Path
    images: int
    learned_from: dict[str, float]
    folds: int
    repeats: int
    experiments: dict[str, ExperimentScores]
    differences: dict[str, Difference]
    faults: tuple[str, ...] = ()


def study(
    data: Path,
    output: Path,
    config: StudyConfig,
    *,
    device: str = "auto",
    keep_going: bool = False,
    overwrite: bool = False,
) -> StudyResult:
    """Cross-validate every experiment, `repeats` times on `folds` folds of a product's images.

    Writes predictions, figures, a Markdown table and a plot. The same call goes on with a run that
    was stopped. Raises DataError for categories with too few images, WeightsError.
    """
    faults = Faults(keep_going)
    record = RunRecord("study", config.model_dump(mode="json"), [data])
    dataset = read_product(
        data, faults, config.group_by, config.good_limit, allow_outside=config.allow_outside
    )
    categories = image_categories(dataset)
    labels = np.array([categories.index(r.defect) for r in dataset.records], np.int64)
    with record.resumable_folder(output, overwrite) as folder:
        if finished := record.finished(folder):
            return from_json(StudyResult, finished, folder / RUN_FILE)
        parts = list(_folds(dataset.records, labels, config))
        images = FoldedImages(categories, dataset.records, labels, parts)
        with WorkLog(folder / LOG, "folds", _PREDICTIONS) as log:
            predictions = {
                name: _predict(name, experiment, images, device, log)
                for name, experiment in config.experiments.items()
            }
        _write_predictions(folder / "predictions.json", images, predictions)
        result = _result(config, images, predictions, faults, output)
        write_text(folder / "table.md", study_tables(result.experiments, result.differences))
        plot_accuracies(folder / "study.png", result.experiments)
        record.write(folder, result.to_json())
    return result


def _result(
    config: StudyConfig,
    images: FoldedImages,
    predictions: Mapping[str, FoldedPredictions],
    faults: Faults,
    output: Path,
) -> StudyResult:
    rows = {
        name: experiment_scores(
            experiment.backbone,
            experiment.published,
            predictions[name],
            images,
            config.shots if config.long_tail else None,
        )
        for name, experiment in config.experiments.items()
    }
    return StudyResult(
        output=output,
        images=len(images.records),
        learned_from={name: round(mean, 1) for name, mean in images.train_means().items()},
        folds=config.folds,
        repeats=config.repeats,
        experiments=rows,
        differences=accuracy_differences(predictions, images),
        faults=tuple(str(error) for error in faults.errors),
    )


def _folds(
    records: Sequence[ImageRecord], labels: NDArray[np.int64], config: StudyConfig
) -> Iterator[Fold]:
    """The folds of each repeat; with `long_tail`, the training images are a long tail."""
    for repeat in range(config.repeats):
        fold_of = folds(records, config.folds, config.seed + repeat)
        numbers = np.array([fold_of[record.group] for record in records])
        for number in range(config.folds):
            train, test = np.flatnonzero(numbers != number), np.flatnonzero(numbers == number)
            if config.long_tail:
                train = long_tail(train, labels, config.long_tail, config.seed + repeat)
            if not len(test) or not len(train):
                raise DataError(Path(), "has too few images for so many folds", "use fewer folds")
            yield Fold(f"{repeat}_{number}", train, test)


def _predict(
    name: str,
    experiment: ClassifyConfig,
    images: FoldedImages,
    device: str,
    log: WorkLog[LoggedFold],
) -> FoldedPredictions:
    """Predictions of each fold; read back where an earlier call wrote them."""
    from pipeline.models.classifier.cross_validation import FoldTrainer, build_trainer
    from pipeline.models.devices import torch_device

    keys = {fold.name: f"{name} {fold.name}" for fold in images.folds}
    rows = {f.name: _kept(log, keys[f.name], f, len(images.categories)) for f in images.folds}
    if not all(rows.values()):
        settings = experiment.model_dump(mode="json")
        trainer = build_trainer(images.categories, settings, torch_device(device))
        records = images.records
        trainers = FoldTrainer(
            trainer, lambda: (read_image(r.path) for r in track(records, "features"))
        )
        for fold in track(images.folds, name):
            if not rows[fold.name]:
                labels = trainers.predict(fold.train, images.labels[fold.train], fold.test)
                row = LoggedFold(predictions=labels.tolist(), weights=trainer.origin)
                log.add(keys[fold.name], row)
                rows[fold.name] = row
    complete = [row for row in rows.values() if row]
    by_fold = [np.array(row["predictions"], np.int64) for row in complete]
    return FoldedPredictions(by_fold, complete[0]["weights"])


def _write_predictions(
    path: Path, images: FoldedImages, predictions: Mapping[str, FoldedPredictions]
) -> None:
    """Write the predicted labels by experiment and fold."""
    rows = {
        name: {
            fold.name: labels.tolist()
            for fold, labels in zip(images.folds, each.by_fold, strict=True)
        }
        for name, each in predictions.items()
    }
    write_json(path, rows)


def _kept(log: WorkLog[LoggedFold], key: str, fold: Fold, categories: int) -> LoggedFold | None:
    """The predictions that an earlier call wrote for a fold; None for any others."""
    row = log.get(key)
    fits = row and len(row["predictions"]) == len(fold.test)
    return row if row and fits and max(row["predictions"]) < categories else None
