"""`pipeline predict`: any trained model on any image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.schema import PredictConfig
from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.coco import write_coco
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.png_masks import write_png_mask
from pipeline.formats.values import blamed_on
from pipeline.io.images import Image, images_below, read_image, write_heatmap, write_png
from pipeline.io.run_record import RunRecord
from pipeline.io.write import write_json
from pipeline.runtime.progress import track
from pipeline.types import (
    Classifier,
    Dataset,
    Detections,
    Detector,
    ImageRecord,
    refuse_equal_stems,
)
from pipeline.visualization.overlays import heat_overlay, overlay

if TYPE_CHECKING:
    from pipeline.models.anomaly.detector import AnomalyDetector
    from pipeline.models.sam.model import CalibratedSegmenter

PREDICTIONS = "predictions.json"


def predict(
    images: Sequence[Path],
    model: Path,
    output: Path,
    config: PredictConfig,
    device: str,
    keep_going: bool = False,
) -> dict[str, Any]:
    """Run the model of a folder on image files and folders of them.

    Writes predictions.json, a row an image; of what finds boxes also COCO instances and pictures,
    with masks where `config.sam` names a SAM; of an anomaly model heat maps. Raises DataError for
    no image and for files that cannot be read, ConfigError, WeightsError.
    """
    from pipeline.models.load import load_model

    faults = Faults(keep_going)
    record = RunRecord("predict", config.model_dump(mode="json"), [*images, model])
    listed = _listed(images, config.allow_outside)
    found = load_model(model, device)
    if config.sam and isinstance(found, Classifier):
        raise ConfigError(f"{model}: is a classifier, which gives SAM no boxes")
    segmenter = _cutter(config.sam, device, record) if config.sam else None
    rows: list[dict[str, Any]] = []
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    with record.whole_folder(output) as folder:
        for path, name in track(listed, "predict"):
            try:
                image = read_image(path)
                height, width = image.shape[:2]
                with blamed_on(path, "", "rename it"):
                    entry = ImageRecord(len(records) + 1, path, name, height, width)
            except DataError as error:
                faults.add(error)
                continue
            if isinstance(found, Classifier):
                told = _classified(found, image)
            else:
                objects[entry.id] = _detected(found, segmenter, image)
                told = _told(objects[entry.id], found, image, folder, entry)
            records.append(entry)
            rows.append({"image": str(path), "file_name": name, **told})
        write_json(folder / PREDICTIONS, rows)
        if not isinstance(found, Classifier):
            made = Dataset(found.categories, tuple(records), objects)
            write_coco(folder / "instances.json", made)
        summary = {
            "output": str(output),
            "images": len(rows),
            "objects": sum(len(seen) for seen in objects.values()),
            "predictions": rows if len(rows) == 1 else None,
            "faults": [str(error) for error in faults.found],
        }
        record.write(folder, summary)
    return summary


def _cutter(name: str, device: str, record: RunRecord) -> CalibratedSegmenter:
    from pipeline.models.devices import torch_device
    from pipeline.models.sam.model import load_segmenter

    segmenter = load_segmenter(name, {}, torch_device(device))
    for weights, sha256 in segmenter.weights.items():
        record.used_weights(weights, sha256)
    return segmenter


def _listed(images: Sequence[Path], allow_outside: bool) -> list[tuple[Path, str]]:
    """Each image file once, with a name that no other has: from their common folder where the
    shorter ones would not do."""
    found: list[tuple[Path, str]] = []
    for given in images:
        if given.is_dir():
            folders = NamedFolders([given], allow_outside)
            for path in images_below(given):
                folders.refuse_outside(path)
            found += [(p, p.relative_to(given).as_posix()) for p in images_below(given)]
        elif given.is_file():
            found.append((given, given.name))
        else:
            raise DataError(given, "no such image", "check the path")
    if not found:
        raise DataError(images[0] if images else Path(), "holds no image", "check the path")
    if len({Path(name).with_suffix("") for _, name in found}) < len(found):
        whole = sorted({path.resolve() for path, _ in found})
        root = Path(os.path.commonpath([path.parent for path in whole]))
        found = [(path, path.relative_to(root).as_posix()) for path in whole]
        refuse_equal_stems((name, path) for path, name in found)
    return found


def _classified(model: Classifier, image: Image) -> dict[str, Any]:
    shares = model.classify([image])[0]
    named = {
        name: round(float(share), 4) for name, share in zip(model.categories, shares, strict=True)
    }
    return {"category": model.categories[int(shares.argmax())], "probabilities": named}


def _detected(model: Detector, segmenter: CalibratedSegmenter | None, image: Image) -> Detections:
    found = model.detect(image)
    if segmenter is None:
        return found
    masks = segmenter.segment(
        image, found.boxes, [model.categories[label] for label in found.labels]
    )
    quality: dict[str, Any] = {**masks.quality, "failed": masks.failed}
    return replace(found, masks=masks.masks, quality=quality)


def _told(
    found: Detections, model: Detector, image: Image, folder: Path, record: ImageRecord
) -> dict[str, Any]:
    """What a row says of an image's objects and of its heat map; pictures and masks are written."""
    from pipeline.models.load import anomaly_heatmap

    scores = np.ones(len(found)) if found.scores is None else found.scores
    boxes = [
        {
            "category": model.categories[int(found.labels[row])],
            "score": round(float(scores[row]), 4),
            "box_xyxy": [round(float(value), 2) for value in found.boxes[row]],
        }
        for row in range(len(found))
    ]
    target = Path(record.file_name).with_suffix(".png")
    write_png(folder / "overlays" / target, overlay(image, found, model.categories))
    if found.masks:
        write_png_mask(folder / "masks", record, found)
    heat = anomaly_heatmap(model)
    return {"objects": boxes, **(_heat(heat, image, folder, record.file_name) if heat else {})}


def _heat(model: AnomalyDetector, image: Image, folder: Path, name: str) -> dict[str, Any]:
    found, thresholds = model.anomaly_map(image), model.thresholds
    write_heatmap(folder / "heatmaps", name, found.heatmap)
    target = folder / "heatmaps" / Path(name).with_suffix(".heat.png")
    write_png(
        target, heat_overlay(image, found.heatmap, thresholds.pixel_low, 2 * thresholds.pixel_high)
    )
    return {
        "anomaly_score": round(found.score, 6),
        "limit": round(thresholds.image, 6),
        "defective": found.score >= thresholds.image,
    }
