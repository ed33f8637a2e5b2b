"""`pipeline classify`: the category of a whole image, good or one of the defects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipeline.config.schema import ClassifyConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.products import image_categories, read_product, train_and_test
from pipeline.interfaces import Classifier
from pipeline.io.images import Image, read_image
from pipeline.io.manifest import WORK
from pipeline.io.read import RUN_FILE
from pipeline.io.run_record import RunRecord
from pipeline.metrics.classification import Classification, classification
from pipeline.metrics.intervals import wilson
from pipeline.results import StageResult, from_json
from pipeline.runtime.progress import say, track
from pipeline.splits import assign_splits
from pipeline.types import GOOD, ImageRecord
from pipeline.visualization.plots import confusion

if TYPE_CHECKING:
    from pipeline.models.classifier.cross_validation import ClassifierTrainer

_CHECKPOINT = f"{WORK}/checkpoint.pt"
Interval = tuple[float, float]


@dataclass(frozen=True)
class BinaryAccuracy:
    """Accuracy of good against defective, and its 95 % interval."""

    accuracy: float
    accuracy_interval: Interval


@dataclass(frozen=True, kw_only=True)
class ClassifyResult(StageResult):
    """What was trained on how many images, and how it does on test images.

    weights: that the backbone starts from. right: test images of which the category is correct.
    accuracy_of_commonest: of always predicting the commonest category. good_or_defective: None
    without good test images. f1: by category, None for one that is neither true nor predicted.
    training_loss: mean of each epoch. faults: errors of images that were left out.
    """

    output: Path
    backbone: str
    weights: str
    retrieval: bool
    trained_on: int
    tested_on: int
    right: int
    accuracy: float
    accuracy_interval: Interval
    accuracy_of_commonest: float
    macro_f1: float
    good_or_defective: BinaryAccuracy | None = None
    f1: dict[str, float | None]
    training_loss: tuple[float, ...]
    faults: tuple[str, ...] = ()


def classify(
    data: Path,
    output: Path,
    config: ClassifyConfig,
    *,
    device: str = "auto",
    keep_going: bool = False,
    overwrite: bool = False,
) -> ClassifyResult:
    """Train a classifier on an MVTec product and test it on other images.

    With a split file, it learns from train and val and is tested on test; otherwise on a seeded
    stratified share `val`. The same call goes on with a run that was stopped. Raises DataError
    where no image is left to train or to test on, WeightsError.
    """
    faults = Faults(keep_going)
    settings = config.model_dump(mode="json")
    record = RunRecord("classify", settings, [data, config.split_file])
    categories, train, test = _split(data, config, faults)
    trainer = _build_trainer(categories, settings, device, record)
    before = len(faults.errors)
    with record.resumable_folder(output, overwrite) as folder:
        if finished := record.finished(folder):
            return from_json(ClassifyResult, finished, folder / RUN_FILE)
        trainer.training = replace(trainer.training, checkpoint=folder / _CHECKPOINT)
        classifier, history = trainer.fit(_examples(train, categories, faults, "features"))
        trained_on = len(train) - (len(faults.errors) - before)
        figures = _test(classifier, _examples(test, categories, faults, "test"))
        if not history or figures is None:
            raise DataError(data, "has too few images to train and test on", "add images")
        confusion(folder / "confusion.png", figures.confusion, categories)
        classifier.save(folder, {"backbone": config.backbone, "unfreeze": config.unfreeze})
        result = replace(
            _scores(figures, categories, config, output),
            weights=trainer.origin,
            trained_on=trained_on,
            training_loss=tuple(round(epoch.loss, 4) for epoch in history),
            faults=tuple(str(error) for error in faults.errors),
        )
        record.write(folder, result.to_json())
    return result


def _build_trainer(
    categories: tuple[str, ...], settings: Mapping[str, JsonValue], device: str, record: RunRecord
) -> ClassifierTrainer:
    from pipeline.models.classifier.cross_validation import build_trainer
    from pipeline.models.devices import torch_device

    trainer = build_trainer(categories, settings, torch_device(device))
    if trainer.weights:
        record.used_weights(trainer.weights.name, trainer.weights.sha256)
    if trainer.text:
        say(f"the text encoder of retrieval is {trainer.text.name}")
    return trainer


def _test(classifier: Classifier, examples: Iterable[tuple[Image, int]]) -> Classification | None:
    """Figures of the predictions for images with labels; None without an image."""
    pairs = [(label, int(classifier.classify([image])[0].argmax())) for image, label in examples]
    if not pairs:
        return None
    truth, predictions = np.array(pairs, dtype=np.int64).T
    return classification(truth, predictions, len(classifier.categories))


def _scores(
    figures: Classification, categories: Sequence[str], config: ClassifyConfig, output: Path
) -> ClassifyResult:
    """The result with the figures of the test; the training's are still empty."""
    tested, right = int(figures.confusion.sum()), int(np.trace(figures.confusion))
    return ClassifyResult(
        output=output,
        backbone=config.backbone,
        weights="",
        retrieval=config.retrieval,
        trained_on=0,
        tested_on=tested,
        right=right,
        accuracy=round(figures.accuracy, 4),
        accuracy_interval=_wilson(right, tested),
        accuracy_of_commonest=round(int(figures.confusion.sum(axis=1).max()) / tested, 4),
        macro_f1=round(figures.macro_f1, 4),
        good_or_defective=_binary(figures.confusion, categories),
        f1={
            name: None if np.isnan(value) else round(float(value), 4)
            for name, value in zip(categories, figures.f1, strict=True)
        },
        training_loss=(),
    )


def _wilson(right: int, total: int) -> Interval:
    low, high = wilson(right, total)
    return round(low, 4), round(high, 4)


def _split(
    data: Path, config: ClassifyConfig, faults: Faults
) -> tuple[tuple[str, ...], list[ImageRecord], list[ImageRecord]]:
    dataset = read_product(data, faults, config.group_by, config.good_limit, config.split_file,
                           config.allow_outside)  # fmt: skip
    if not config.split_file and not all(record.split for record in dataset.records):
        shares = {"train": 1 - config.val, "test": config.val}
        dataset = assign_splits(dataset, shares, config.seed)
    train, test = train_and_test(dataset)
    if len(learned := {record.defect for record in train}) == 1:
        raise DataError(
            data,
            f"has training images of one category alone, {learned.pop()}",
            "add images of another, or use `pipeline anomaly`, which learns from good images",
        )
    if len(tested := {record.defect for record in test}) == 1:
        say(f"all test images are {tested.pop()}: the accuracy says nothing of other categories")
    return image_categories(dataset), train, test


def _examples(
    records: Sequence[ImageRecord], categories: Sequence[str], faults: Faults, title: str
) -> Iterator[tuple[Image, int]]:
    """Each image with its label; one that cannot be read is a fault."""
    for record in track(records, title):
        try:
            image = read_image(record.path)
        except DataError as error:
            faults.add(error)
            continue
        yield image, categories.index(record.defect)


def _binary(matrix: NDArray[np.int64], categories: Sequence[str]) -> BinaryAccuracy | None:
    """The same predictions as good or defective; None without good test images."""
    if categories[0] != GOOD or not matrix[0].sum():
        return None
    right = int(matrix[0, 0] + matrix[1:, 1:].sum())
    total = int(matrix.sum())
    return BinaryAccuracy(round(right / total, 4), _wilson(right, total))
