"""`pipeline segment --prompt boxes`: boxes, from a file or a detector, become masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import SegmentConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.coco import read_coco, write_coco, write_coco_results
from pipeline.formats.png_masks import write_png_mask
from pipeline.images import SUFFIXES, Image, read_image, read_size, write_png
from pipeline.pictures.overlays import overlay
from pipeline.progress import track
from pipeline.run_record import FILE, RunRecord, fingerprint
from pipeline.storage import whole_folder
from pipeline.types import Dataset, Detections, Detector, ImageRecord, Segmenter


def segment(
    output: Path,
    images: Path,
    config: SegmentConfig,
    device: str,
    boxes: Path | None = None,
    detector: Path | None = None,
    keep_going: bool = False,
) -> dict[str, Any]:
    """Masks for the boxes in a COCO file, or for what the detector of a run finds.

    With both, the detector searches the images that the file lists. Writes COCO instances and
    results, PNG masks and overlays into `output`. Every box has one row, in its order; failed ones
    are marked. Raises DataError for missing images or boxes, WeightsError.
    """
    from pipeline.models.devices import torch_device
    from pipeline.models.sam import SamSegmenter
    from pipeline.models.weights import WeightsStore

    faults = Faults(keep_going)
    prompts = read_coco(boxes, images) if boxes else _list_images(images, faults)
    if config.part:
        prompts = prompts.subset([r for r in prompts.records if r.part == config.part])
    settings = config.model_dump(mode="json")
    record = RunRecord("segment", settings)
    weights = WeightsStore().get(config.sam)
    record.used_weights(weights.name, weights.sha256)
    finder = _load_detector(detector, config, device) if detector else None
    if finder:
        prompts = replace(prompts, categories=finder.categories, objects={})
    segmenter = SamSegmenter(weights, torch_device(device), config.multimask)
    with whole_folder(output, FILE) as folder:
        objects, overlap = {}, 0
        for image_record, image in _read(prompts, faults):
            found = finder.detect(image) if finder else prompts.on(image_record)
            objects[image_record.id] = _with_masks(found, image, segmenter)
            overlap += _draw(folder, image_record, image, objects[image_record.id], prompts, config)
        result = prompts.subset([r for r in prompts.records if r.id in objects])
        result = replace(result, objects=objects)
        write_coco(folder / "instances.json", result)
        write_coco_results(folder / "results.json", result)
        rows = [found for found in objects.values() if len(found)]
        summary = {
            "output": str(output),
            "sam": weights.name,
            "images": len(objects),
            "boxes": sum(map(len, rows)),
            "failed": int(sum(found.quality["failed"].astype(int).sum() for found in rows)),
            "pixels_lost_to_overlap_in_png": overlap,
            "predicted_iou_mean": _mean([found.quality["predicted_iou"] for found in rows]),
            "stability_mean": _mean([found.quality["stability"] for found in rows]),
            "faults": [str(error) for error in faults.found],
        }
        record.write(folder, summary, fingerprint([p for p in (boxes, detector, images) if p]))
    return summary


def _load_detector(run: Path, config: SegmentConfig, device: str) -> Detector:
    from pipeline.models.yolo_world import load_run

    return load_run(run, config.confidence, device, config.max_boxes)


def _list_images(images: Path, faults: Faults) -> Dataset:
    if not images.is_dir():
        raise DataError(images, "no such folder", "check --images")
    paths = sorted(p for p in images.rglob("*") if p.suffix.lower() in SUFFIXES)
    records: list[ImageRecord] = []
    for path in paths:
        try:
            height, width = read_size(path)
        except DataError as error:
            faults.add(error)
            continue
        name = path.relative_to(images).as_posix()
        records.append(ImageRecord(len(records) + 1, path, name, height, width))
    if not records:
        raise DataError(images, "holds no image", "check --images")
    return Dataset((), tuple(records))


def _read(prompts: Dataset, faults: Faults) -> Iterator[tuple[ImageRecord, Image]]:
    """Each image with its record; one that cannot be read, or has another size, is a fault."""
    for record in track(prompts.records, "segment"):
        try:
            image = read_image(record.path)
            if image.shape[:2] != record.size:
                height, width = image.shape[:2]
                raise DataError(
                    record.path,
                    f"is {width}x{height}, but the boxes are for {record.width}x{record.height}",
                    "give the images that the boxes were drawn on",
                )
        except DataError as error:
            faults.add(error)
            continue
        yield record, image


def _with_masks(found: Detections, image: Image, segmenter: Segmenter) -> Detections:
    """The same rows with masks and what SAM thinks of them; its opinion is the score where the
    boxes had none."""
    masks = segmenter.segment(image, found.boxes)
    scores = found.scores if found.scores is not None else masks.predicted_iou
    quality: dict[str, Any] = {
        "predicted_iou": masks.predicted_iou,
        "stability": masks.stability,
        "failed": masks.failed,
    }
    if "annotation_id" in found.quality:
        quality["prompt_id"] = found.quality["annotation_id"]
    return replace(found, masks=masks.masks, scores=scores, quality=quality)


def _draw(
    folder: Path,
    record: ImageRecord,
    image: Image,
    found: Detections,
    prompts: Dataset,
    config: SegmentConfig,
) -> int:
    """Write the PNG mask and the overlay; returns the pixels that lie in several masks."""
    if not len(found):
        return 0
    if config.overlays:
        target = folder / "overlays" / Path(record.file_name).with_suffix(".png")
        write_png(target, overlay(image, found, prompts.categories))
    return write_png_mask(folder / "masks", record, found)


def _mean(columns: list[Any]) -> float | None:
    return round(float(np.concatenate(columns).mean()), 4) if columns else None
