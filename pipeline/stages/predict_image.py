"""What `pipeline predict` does with one image, in any process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.png_masks import write_png_mask
from pipeline.formats.values import as_data_error
from pipeline.interfaces import Classifier, Detector
from pipeline.io.heatmaps import write_heatmap
from pipeline.io.images import Image, read_image, write_png
from pipeline.runners import PerProcess
from pipeline.types import Detections, ImageRecord
from pipeline.visualization.overlays import heat_overlay, overlay

if TYPE_CHECKING:
    from pipeline.models.anomaly.detector import AnomalyDetector
    from pipeline.models.sam.model import CalibratedSegmenter

_FIRST_ID = 1  # of an image alone


@dataclass(frozen=True)
class PredictedObject:
    """One object: box (x0, y0, x1, y1) in pixels, score in [0, 1]."""

    category: str
    score: float
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class Prediction:
    """What a model predicts of one image; None for what its kind of model does not.

    category, probabilities: of a classifier. objects: of a detector or an anomaly model.
    anomaly_score, threshold, defective: of an anomaly model.
    """

    image: Path
    file_name: str
    category: str | None = None
    probabilities: dict[str, float] | None = None
    objects: tuple[PredictedObject, ...] | None = None
    anomaly_score: float | None = None
    threshold: float | None = None
    defective: bool | None = None


@dataclass(frozen=True)
class PredictedImage:
    """An image with its row. record: its id is to be set. detections: None of a classifier."""

    record: ImageRecord
    row: Prediction
    detections: Detections | None = None


@dataclass(frozen=True)
class PredictModels:
    """The models of one process. segmenter: for masks; None without. finder: who finds the
    objects."""

    model: Detector | Classifier
    segmenter: CalibratedSegmenter | None
    finder: str


@dataclass(frozen=True)
class PredictImages:
    """The work on images, given as paths with their names. folder: for pictures."""

    models: PerProcess[PredictModels]
    folder: Path

    def __call__(self, files: Sequence[tuple[Path, str]]) -> Iterator[PredictedImage | DataError]:
        """What the models predict of each image, or why it cannot be read."""
        models = self.models.get()
        for path, name in files:
            try:
                image = read_image(path)
                height, width = image.shape[:2]
                with as_data_error(path, "", "rename it"):
                    record = ImageRecord(_FIRST_ID, path, name, height, width)
            except DataError as error:
                yield error
                continue
            yield self._predicted(models, record, image)

    def _predicted(
        self, models: PredictModels, record: ImageRecord, image: Image
    ) -> PredictedImage:
        row, model = Prediction(record.path, record.file_name), models.model
        if isinstance(model, Classifier):
            return PredictedImage(record, _classified(row, model, image))
        detections = _detected(model, models.segmenter, image)
        detections = replace(detections, finders=(models.finder,) * len(detections))
        row = _written(row, detections, model, image, self.folder, record)
        return PredictedImage(record, row, detections)


def _classified(row: Prediction, model: Classifier, image: Image) -> Prediction:
    """The row with the category of the image and the probability of each."""
    shares = model.classify([image])[0]
    probabilities = {
        name: round(float(share), 4) for name, share in zip(model.categories, shares, strict=True)
    }
    category = model.categories[int(shares.argmax())]
    return replace(row, category=category, probabilities=probabilities)


def _detected(model: Detector, segmenter: CalibratedSegmenter | None, image: Image) -> Detections:
    """The detections of an image, with masks if there is a segmenter."""
    detections = model.detect(image)
    if segmenter is None:
        return detections
    names = [model.categories[label] for label in detections.labels]
    masks = segmenter.segment(image, detections.boxes, names)
    return replace(detections, masks=masks.masks, quality=masks.quality, failed=masks.failed)


def _written(
    row: Prediction,
    detections: Detections,
    model: Detector,
    image: Image,
    folder: Path,
    record: ImageRecord,
) -> Prediction:
    """The row with an image's objects and anomaly score; writes its pictures, masks, heat map."""
    from pipeline.models.load import as_anomaly_detector

    scores = np.ones(len(detections)) if detections.scores is None else detections.scores
    columns = zip(detections.labels, scores, detections.boxes, strict=True)
    objects = tuple(
        PredictedObject(
            model.categories[int(label)],
            round(float(score), 4),
            (x0, y0, x1, y1),
        )
        for label, score, box in columns
        for x0, y0, x1, y1 in [[round(float(value), 2) for value in box]]
    )
    target = Path(record.file_name).with_suffix(".png")
    write_png(folder / "overlays" / target, overlay(image, detections, model.categories))
    if detections.masks:
        write_png_mask(folder / "masks", record, detections)
    row = replace(row, objects=objects)
    anomaly_model = as_anomaly_detector(model)
    return _with_heatmap(row, anomaly_model, image, folder) if anomaly_model else row


def _with_heatmap(
    row: Prediction, model: AnomalyDetector, image: Image, folder: Path
) -> Prediction:
    """The row with the anomaly score; writes the heat map and its overlay."""
    anomaly, thresholds = model.anomaly_map(image), model.thresholds
    write_heatmap(folder / "heatmaps", row.file_name, anomaly.heatmap)
    target = folder / "heatmaps" / Path(row.file_name).with_suffix(".heat.png")
    low, high = thresholds.pixel_low, 2 * thresholds.pixel_high
    write_png(target, heat_overlay(image, anomaly.heatmap, low, high))
    return replace(
        row,
        anomaly_score=round(anomaly.score, 6),
        threshold=round(thresholds.image, 6),
        defective=anomaly.score >= thresholds.image,
    )
