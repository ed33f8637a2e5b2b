"""`pipeline study`: several classifiers on the same folds, in one table.

Each image is tested on once in a repeat. A paired test tells which differences are significant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, TypeAdapter
from typing_extensions import TypedDict

from pipeline.config.schema import ClassifyConfig, Experiment, StudyConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.products import image_categories, read_product
from pipeline.io.images import read_image
from pipeline.io.read import RUN_FILE
from pipeline.io.run_record import RunRecord
from pipeline.io.work_log import LOG, WorkLog
from pipeline.io.write import write_json, write_text
from pipeline.metrics.classification import classification
from pipeline.metrics.intervals import bootstrap_mean, wilson
from pipeline.metrics.paired import corrected_t_test, holm, shots
from pipeline.results import StageResult, from_json
from pipeline.runtime.progress import track
from pipeline.splits import folds
from pipeline.types import ImageRecord
from pipeline.visualization.plots import intervals

_SIGNIFICANT = 0.05  # p below which a difference is significant
Interval = tuple[float, float]


class FoldPredictions(TypedDict):
    """Predicted label of each test image of a fold, and the weights that the backbone starts
    from."""

    predictions: Annotated[list[NonNegativeInt], Field(min_length=1)]
    weights: str


_PREDICTIONS = TypeAdapter(FoldPredictions)


@dataclass(frozen=True)
class Fold:
    """Rows of the training images and of the test images."""

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class _Images:
    """A product's images with their labels (N,), and the folds over them."""

    categories: tuple[str, ...]
    records: Sequence[ImageRecord]
    labels: NDArray[np.int64]
    folds: Sequence[Fold]

    @property
    def truth(self) -> NDArray[np.int64]:
        """Labels of the test images of all folds, one fold after another."""
        return np.concatenate([self.labels[fold.test] for fold in self.folds])

    def train_means(self) -> dict[str, float]:
        """Mean number of training images of each category in a fold."""
        size = len(self.categories)
        counts = [np.bincount(self.labels[fold.train], minlength=size) for fold in self.folds]
        return {
            name: float(np.mean([count[label] for count in counts]))
            for label, name in enumerate(self.categories)
        }


@dataclass(frozen=True)
class _Predictions:
    """Predicted labels of the test images of each fold, in order, and the backbone's weights."""

    by_fold: Sequence[NDArray[np.int64]]
    weights: str

    def accuracies(self, images: _Images) -> list[float]:
        """Accuracy in each fold."""
        pairs = zip(self.by_fold, images.folds, strict=True)
        return [float((labels == images.labels[fold.test]).mean()) for labels, fold in pairs]

    def right(self, images: _Images) -> NDArray[np.float64]:
        """(N,): the share of repeats in which the label of each image is correct."""
        right, times = np.zeros(len(images.labels)), np.zeros(len(images.labels))
        for labels, fold in zip(self.by_fold, images.folds, strict=True):
            right[fold.test] += labels == images.labels[fold.test]
            times[fold.test] += 1
        return right / np.maximum(times, 1)


@dataclass(frozen=True, kw_only=True)
class ExperimentScores:
    """Figures of one experiment over all folds.

    weights: that the backbone starts from. published: accuracy that was published of it.
    accuracy_interval: Wilson's; accuracy_bootstrap: over groups of images. by_shots: mean recall of
    the categories with many, medium and few training images, None without a long tail.
    """

    backbone: str
    weights: str
    published: float | None = None
    accuracy: float
    accuracy_interval: Interval
    accuracy_bootstrap: Interval
    macro_f1: float
    by_shots: dict[str, float] | None = None


@dataclass(frozen=True)
class Difference:
    """Difference of two experiments' accuracies, its p (Holm), and whether it is significant."""

    accuracy: float
    p: float
    real: bool


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
        images = _Images(categories, dataset.records, labels, parts)
        with WorkLog(folder / LOG, "folds", _PREDICTIONS) as log:
            predictions = {
                name: _predict(name, chosen, images, device, log)
                for name, chosen in config.experiments.items()
            }
        _write_predictions(folder / "predictions.json", images, predictions)
        result = _result(config, images, predictions, faults, output)
        write_text(folder / "table.md", table(result))
        _plot(folder / "study.png", result)
        record.write(folder, result.to_json())
    return result


def _result(
    config: StudyConfig,
    images: _Images,
    predictions: Mapping[str, _Predictions],
    faults: Faults,
    output: Path,
) -> StudyResult:
    rows = {
        name: _scores(chosen, predictions[name], images, config)
        for name, chosen in config.experiments.items()
    }
    return StudyResult(
        output=output,
        images=len(images.records),
        learned_from={name: round(mean, 1) for name, mean in images.train_means().items()},
        folds=config.folds,
        repeats=config.repeats,
        experiments=rows,
        differences=_differences(predictions, images),
        faults=tuple(str(error) for error in faults.found),
    )


def _plot(path: Path, result: StudyResult) -> None:
    rows = result.experiments.items()
    accuracies = {name: (row.accuracy, *row.accuracy_interval) for name, row in rows}
    published = {name: row.published for name, row in rows if row.published is not None}
    intervals(path, "accuracy, 95 %", accuracies, published)


def table(result: StudyResult) -> str:
    """Markdown tables: a row for each experiment, and one for each difference."""
    tail = any(row.by_shots is not None for row in result.experiments.values())
    head = ["experiment", "weights", "published", "accuracy (95 %, Wilson)", "(bootstrap)"]
    head += ["macro F1", *(["many / medium / few-shot"] if tail else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, row in result.experiments.items():
        low, high = row.accuracy_interval
        low2, high2 = row.accuracy_bootstrap
        published = "-" if row.published is None else f"{row.published:.4f}"
        cells = [name, row.weights, published, f"{row.accuracy:.3f} ({low:.3f}-{high:.3f})"]
        cells += [f"({low2:.3f}-{high2:.3f})", f"{row.macro_f1:.3f}"]
        if tail:
            shares = ((row.by_shots or {}).get(group) for group in ("many", "medium", "few"))
            cells.append(" / ".join("-" if s is None else f"{s:.3f}" for s in shares))
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| difference | accuracy | p (Holm) | real? |", "|---|---|---|---|"]
    for name, one in result.differences.items():
        real = "yes" if one.real else "no"
        lines.append(f"| {name} | {one.accuracy:+.3f} | {one.p:.3f} | {real} |")
    return "\n".join(lines) + "\n"


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
                train = _thinned(train, labels, config.long_tail, config.seed + repeat)
            if not len(test) or not len(train):
                raise DataError(Path(), "has too few images for so many folds", "use fewer folds")
            yield Fold(f"{repeat}_{number}", train, test)


def _thinned(
    rows: NDArray[np.int64], labels: NDArray[np.int64], tail: tuple[int, int], seed: int
) -> NDArray[np.int64]:
    """Random rows: the most frequent category keeps `tail[0]`, the rarest `tail[1]`, and those
    between keep numbers that fall evenly on a logarithmic scale."""
    counts = Counter(labels[rows].tolist())
    order = sorted(counts, key=lambda label: (-counts[label], label))
    wanted = np.geomspace(tail[0], tail[1], max(len(order), 1))
    generator = np.random.default_rng(seed)
    kept = []
    for label, count in zip(order, wanted, strict=True):
        own = rows[labels[rows] == label]
        kept.append(generator.permutation(own)[: max(round(count), 1)])
    return np.sort(np.concatenate(kept))


def _predict(
    name: str,
    chosen: ClassifyConfig,
    images: _Images,
    device: str,
    log: WorkLog[FoldPredictions],
) -> _Predictions:
    """Predictions of each fold; read back where an earlier call wrote them."""
    from pipeline.models.classifier.cross_validation import FoldTrainer, build_trainer
    from pipeline.models.devices import torch_device

    keys = {fold.name: f"{name} {fold.name}" for fold in images.folds}
    rows = {f.name: _kept(log, keys[f.name], f, len(images.categories)) for f in images.folds}
    if not all(rows.values()):
        settings = chosen.model_dump(mode="json")
        trainer = build_trainer(images.categories, settings, torch_device(device))
        records = images.records
        trainers = FoldTrainer(
            trainer, lambda: (read_image(r.path) for r in track(records, "features"))
        )
        for fold in track(images.folds, name):
            if not rows[fold.name]:
                labels = trainers.predict(fold.train, images.labels[fold.train], fold.test)
                row = FoldPredictions(predictions=labels.tolist(), weights=trainer.origin)
                log.add(keys[fold.name], row)
                rows[fold.name] = row
    complete = [row for row in rows.values() if row]
    by_fold = [np.array(row["predictions"], np.int64) for row in complete]
    return _Predictions(by_fold, complete[0]["weights"])


def _write_predictions(
    path: Path, images: _Images, predictions: Mapping[str, _Predictions]
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


def _kept(
    log: WorkLog[FoldPredictions], key: str, fold: Fold, categories: int
) -> FoldPredictions | None:
    """The predictions that an earlier call wrote for a fold; None for any others."""
    row = log.get(key)
    fits = row and len(row["predictions"]) == len(fold.test)
    return row if row and fits and max(row["predictions"]) < categories else None


def _scores(
    chosen: Experiment, predictions: _Predictions, images: _Images, config: StudyConfig
) -> ExperimentScores:
    right = predictions.right(images)
    labels = np.concatenate(predictions.by_fold)
    figures = classification(images.truth, labels, len(images.categories))
    low, high = wilson(round(float(right.sum())), len(right))
    groups = [record.group for record in images.records]
    low2, high2 = bootstrap_mean(right.tolist(), groups=groups)
    return ExperimentScores(
        backbone=chosen.backbone,
        weights=predictions.weights,
        published=chosen.published,
        accuracy=round(float(right.mean()), 4),
        accuracy_interval=(round(low, 4), round(high, 4)),
        accuracy_bootstrap=(round(low2, 4), round(high2, 4)),
        macro_f1=round(figures.macro_f1, 4),
        by_shots=_by_shots(labels, images, config.shots) if config.long_tail else None,
    )


def _by_shots(
    labels: NDArray[np.int64], images: _Images, limits: tuple[int, int]
) -> dict[str, float]:
    """Mean recall of the categories with many, medium and few training images."""
    group_of = shots({name: int(mean) for name, mean in images.train_means().items()}, *limits)
    truth = images.truth
    recalls: dict[str, list[float]] = {}
    for label, name in enumerate(images.categories):
        if (truth == label).any():
            recall = float((labels[truth == label] == label).mean())
            recalls.setdefault(group_of[name], []).append(recall)
    return {name: round(float(np.mean(values)), 4) for name, values in recalls.items()}


def _differences(predictions: Mapping[str, _Predictions], images: _Images) -> dict[str, Difference]:
    """Differences of all pairs, the later experiment minus the earlier."""
    accuracies = {name: each.accuracies(images) for name, each in predictions.items()}
    share = float(np.mean([len(fold.test) / len(images.labels) for fold in images.folds]))
    raw, means = {}, {}
    for first, second in combinations(accuracies, 2):
        gaps = np.subtract(accuracies[second], accuracies[first]).tolist()
        raw[f"{second} - {first}"] = corrected_t_test(gaps, share)
        means[f"{second} - {first}"] = float(np.mean(gaps))
    return {
        name: Difference(round(means[name], 4), round(p, 4), p < _SIGNIFICANT)
        for name, p in holm(raw).items()
    }
