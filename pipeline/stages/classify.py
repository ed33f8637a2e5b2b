"""`pipeline classify`: is a whole image good, and if not, what is wrong with it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.schema import ClassifyConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.products import image_categories, read_product, train_and_test
from pipeline.io.images import Image, read_image
from pipeline.io.manifest import WORK
from pipeline.io.run_record import RunRecord
from pipeline.metrics.classification import Classification, classification
from pipeline.metrics.intervals import wilson
from pipeline.runtime.progress import say, track
from pipeline.splits import assign_splits
from pipeline.types import GOOD, ImageRecord
from pipeline.visualization.plots import confusion

_CHECKPOINT = f"{WORK}/checkpoint.pt"


def classify(
    data: Path,
    output: Path,
    config: ClassifyConfig,
    device: str,
    keep_going: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train the classifier on an MVTec product and test it on images it has not seen.

    With a split file, it learns on train and val and is tested on test; otherwise on a seeded
    stratified share `val`. A call that was stopped is taken up by the same call. Returns accuracy
    with its Wilson interval and macro F1. Raises DataError when no image is left to train or to
    test on.
    """
    from pipeline.models.classifier.cross_validation import recipe_of
    from pipeline.models.devices import torch_device

    faults = Faults(keep_going)
    settings = config.model_dump(mode="json")
    record = RunRecord("classify", settings, [data, config.split_file])
    categories, train, held = _parts(data, config, faults)
    recipe = recipe_of(categories, torch_device(device), **settings)
    if recipe.weights:
        record.used_weights(recipe.weights.name, recipe.weights.sha256)
    if recipe.text:
        say(f"the retrieval module reads by {recipe.text.name}")
    listed = len(faults.found)
    with record.resumable_folder(output, overwrite) as folder:
        if done := record.finished(folder):
            return done
        recipe.lesson = replace(recipe.lesson, checkpoint=folder / _CHECKPOINT)
        judge, history = recipe.trained(_examples(train, categories, faults, "features"))
        trained_on = len(train) - (len(faults.found) - listed)
        answers = [
            (label, int(judge.classify([image])[0].argmax()))
            for image, label in _examples(held, categories, faults, "test")
        ]
        if not history or not answers:
            raise DataError(data, "has too few images to train and test on", "add images")
        truth, said = np.array(answers, dtype=np.int64).T
        figures = classification(truth, said, len(categories))
        confusion(folder / "confusion.png", figures.confusion, categories)
        judge.save(folder, {"backbone": config.backbone, "unfreeze": config.unfreeze})
        summary = {
            "output": str(output),
            "backbone": config.backbone,
            "weights": recipe.origin,
            "retrieval": config.retrieval,
            "trained_on": trained_on,
            **_figures(figures, categories),
            "training_loss": [round(epoch.loss, 4) for epoch in history],
            "faults": [str(error) for error in faults.found],
        }
        record.write(folder, summary)
    return summary


def _figures(figures: Classification, categories: Sequence[str]) -> dict[str, Any]:
    """Accuracy beside that of always naming the commonest, each with what bounds it."""
    tested, right = int(figures.confusion.sum()), int(np.trace(figures.confusion))
    return {
        "tested_on": tested,
        "right": right,
        "accuracy": round(figures.accuracy, 4),
        "accuracy_interval": [round(value, 4) for value in wilson(right, tested)],
        "accuracy_of_commonest": round(int(figures.confusion.sum(axis=1).max()) / tested, 4),
        "macro_f1": round(figures.macro_f1, 4),
        "good_or_defective": _binary(figures.confusion, categories),
        "f1": {
            name: None if np.isnan(value) else round(float(value), 4)
            for name, value in zip(categories, figures.f1, strict=True)
        },
    }


def _parts(
    data: Path, config: ClassifyConfig, faults: Faults
) -> tuple[tuple[str, ...], list[ImageRecord], list[ImageRecord]]:
    listed = read_product(data, faults, config.group_by, config.good_limit, config.split_file,
                          config.allow_outside)  # fmt: skip
    if not config.split_file:
        listed = assign_splits(listed, {"train": 1 - config.val, "test": config.val}, config.seed)
    train, held = train_and_test(listed)
    return image_categories(listed), train, held


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


def _binary(matrix: Any, categories: Sequence[str]) -> dict[str, Any] | None:
    """The same answers read as "is anything wrong at all", for sets that hold good images."""
    if categories[0] != GOOD or not matrix[0].sum():
        return None
    right = int(matrix[0, 0] + matrix[1:, 1:].sum())
    total = int(matrix.sum())
    interval = [round(value, 4) for value in wilson(right, total)]
    return {"accuracy": round(right / total, 4), "accuracy_interval": interval}
