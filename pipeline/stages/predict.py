"""`pipeline predict`: any trained model on any image."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter

from pipeline.config.schema import PredictConfig
from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.coco import write_coco
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.png_masks import write_png_mask
from pipeline.formats.values import as_data_error
from pipeline.interfaces import Classifier, Detector
from pipeline.io.heatmaps import write_heatmap
from pipeline.io.images import Image, images_below, read_image, write_png
from pipeline.io.run_record import RunRecord
from pipeline.io.write import write_json
from pipeline.results import StageResult
from pipeline.runtime.progress import track
from pipeline.trust.labels import without_calibration
from pipeline.types import Dataset, Detections, ImageRecord, refuse_equal_stems
from pipeline.visualization.overlays import heat_overlay, overlay

if TYPE_CHECKING:
    from pipeline.models.anomaly.detector import AnomalyDetector
    from pipeline.models.sam.model import CalibratedSegmenter

_DEFAULT = PredictConfig()

PREDICTIONS = "predictions.json"


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


@dataclass(frozen=True, kw_only=True)
class PredictResult(StageResult):
    """How many images and objects there are. prediction: of the only image."""

    output: Path
    images: int
    objects: int
    prediction: Prediction | None
    faults: tuple[str, ...]


_PREDICTIONS = TypeAdapter(list[Prediction])


def predict(
    images: Sequence[Path],
    model: Path,
    output: Path,
    config: PredictConfig = _DEFAULT,
    *,
    device: str = "auto",
    keep_going: bool = False,
) -> PredictResult:
    """Run the detector, anomaly model or classifier of a folder on image files and folders of them.

    Writes predictions.json, a row for each image. A detector or anomaly model also writes COCO
    instances and pictures, with masks if `config.sam` names a SAM or the model is a segmenter; an
    anomaly model heat maps.
    Raises DataError for no image and for files that cannot be read, ConfigError, WeightsError.
    """
    from pipeline.models.load import finder_of

    faults = Faults(keep_going)
    record = RunRecord("predict", config.model_dump(mode="json"), [*images, model])
    files = _listed(images, config.allow_outside)
    loaded = _model(model, device)
    if config.sam and isinstance(loaded, Classifier):
        raise ConfigError(f"{model}: is a classifier, which gives SAM no boxes")
    segmenter = _segmenter(config.sam, device, record) if config.sam else None
    finder = finder_of(model)
    predictions: list[Prediction] = []
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    with record.whole_folder(output) as folder:
        for entry, image in _images(files, faults):
            records.append(entry)
            row = Prediction(entry.path, entry.file_name)
            if isinstance(loaded, Classifier):
                predictions.append(_classified(row, loaded, image))
                continue
            detections = _detected(loaded, segmenter, image)
            detections = replace(detections, finders=(finder,) * len(detections))
            objects[entry.id] = detections
            predictions.append(_written(row, detections, loaded, image, folder, entry))
        rows = _PREDICTIONS.dump_python(predictions, mode="json", exclude_none=True)
        write_json(folder / PREDICTIONS, rows)
        if not isinstance(loaded, Classifier):
            dataset = Dataset(loaded.categories, tuple(records), objects)
            write_coco(folder / "instances.json", dataset)
        result = PredictResult(
            output=output,
            images=len(predictions),
            objects=sum(map(len, objects.values())),
            prediction=predictions[0] if len(predictions) == 1 else None,
            faults=tuple(str(error) for error in faults.errors),
        )
        record.write(folder, result.to_json())
    return result


def _model(folder: Path, device: str) -> Detector | Classifier:
    """The trained model of a folder. Raises ConfigError for a SAM, which needs boxes."""
    from pipeline.models.load import load_model
    from pipeline.models.sam.model import CalibratedSegmenter

    model = load_model(folder, device)
    if isinstance(model, CalibratedSegmenter):
        raise ConfigError(f"{folder}: is a SAM, which needs boxes; use segment --sam {folder}")
    return model


def _segmenter(name: str, device: str, record: RunRecord) -> CalibratedSegmenter:
    from pipeline.models.devices import torch_device
    from pipeline.models.sam.model import load_segmenter

    segmenter = load_segmenter(name, {}, torch_device(device))
    for weights, sha256 in segmenter.weights.items():
        record.used_weights(weights, sha256)
    return without_calibration(segmenter)


def _images(
    files: Sequence[tuple[Path, str]], faults: Faults
) -> Iterator[tuple[ImageRecord, Image]]:
    """Each image with its record, whose ids count from 1; one that cannot be read is a fault."""
    number = 1
    for path, name in track(files, "predict"):
        try:
            image = read_image(path)
            height, width = image.shape[:2]
            with as_data_error(path, "", "rename it"):
                record = ImageRecord(number, path, name, height, width)
        except DataError as error:
            faults.add(error)
            continue
        number += 1
        yield record, image


def _listed(images: Sequence[Path], allow_outside: bool) -> list[tuple[Path, str]]:
    """Each image file once, with a unique name: below the given folder, or below the common folder
    of all files where those names are not unique."""
    files: list[tuple[Path, str]] = []
    for source in images:
        if source.is_dir():
            folders = NamedFolders([source], allow_outside)
            for path in images_below(source):
                folders.refuse_outside(path)
            files += [(p, p.relative_to(source).as_posix()) for p in images_below(source)]
        elif source.is_file():
            files.append((source, source.name))
        else:
            raise DataError(source, "no such image", "check the path")
    if not files:
        raise DataError(images[0] if images else Path(), "holds no image", "check the path")
    if len({Path(name).with_suffix("") for _, name in files}) < len(files):
        whole = sorted({path.resolve() for path, _ in files})
        root = Path(os.path.commonpath([path.parent for path in whole]))
        files = [(path, path.relative_to(root).as_posix()) for path in whole]
        refuse_equal_stems((name, path) for path, name in files)
    return files


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
