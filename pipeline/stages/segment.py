"""`pipeline segment --prompt boxes`: boxes, from a file or a detector, become masks.

Images are read ahead, and pictures are written while SAM works. The work log holds the rows of the
finished images: a stopped run goes on from there.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline.config.schema import SegmentConfig
from pipeline.errors import Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.coco_log import sum_figures, write_logged_coco
from pipeline.formats.coco_rows import JsonRow, row_texts
from pipeline.formats.image_files import NamedFolders, leave_out_outside, list_images_below
from pipeline.formats.png_masks import write_png_mask
from pipeline.formats.read_ahead import read_ahead
from pipeline.formats.source import SourceLog
from pipeline.geometry import masks as mask_geometry
from pipeline.interfaces import Detector
from pipeline.io.heatmaps import read_heatmap
from pipeline.io.images import Image, write_png
from pipeline.io.run_record import RunRecord, folder_of
from pipeline.io.work_log import LOG, WorkLog
from pipeline.metrics.operating_points import OperatingPoint
from pipeline.reports.review_page import review_logged
from pipeline.results import StageResult
from pipeline.runtime.progress import say
from pipeline.trust.labels import (
    TrustedLabels,
    load_labels,
    refuse_without_trust,
    without_calibration,
)
from pipeline.types import EXPECTED_IOU, Dataset, Detections, ImageRecord, Masks
from pipeline.visualization.overlays import overlay

if TYPE_CHECKING:
    from pipeline.models.sam.model import CalibratedSegmenter

_DEFAULT = SegmentConfig()

_AHEAD = 3  # images read before they are needed, and written after
_QUALITY = (EXPECTED_IOU, "predicted_iou", "stability")  # the first that a mask has is its trust


@dataclass(frozen=True, kw_only=True)
class SegmentResult(StageResult):
    """Counts and mean figures of all masks.

    sam: name of the SAM. failed: boxes without a mask. *_mean: in [0, 1]; None without a box or
    where the SAM has no such figure. pixels_lost_to_overlap_in_png: pixels in several masks, which
    a PNG mask gives to one. operating_point: of a detector with a trust. faults: a line for each
    image that was left out.
    """

    output: Path
    sam: str
    images: int
    boxes: int
    failed: int
    pixels_lost_to_overlap_in_png: int
    expected_iou_mean: float | None = None
    predicted_iou_mean: float | None = None
    stability_mean: float | None = None
    operating_point: OperatingPoint | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageCounts:
    """Value of an image in the work log: its boxes, the pixels that its PNG mask lost, and the
    probability that the boxes miss a defect."""

    boxes: int
    lost: int
    missed: float | None = None


ImageLog = WorkLog[ImageCounts]


@dataclass(frozen=True)
class Job:
    """All that the masks of one image come from. labels: what is known of the detector's. folder:
    where the files are written."""

    prompts: Dataset
    segmenter: CalibratedSegmenter
    detector: Detector | None
    labels: TrustedLabels | None
    config: SegmentConfig
    folder: Path


def segment(
    images: Path,
    output: Path,
    config: SegmentConfig = _DEFAULT,
    *,
    device: str = "auto",
    boxes: Path | None = None,
    detector: Path | None = None,
    trust: Path | None = None,
    keep_going: bool = False,
    overwrite: bool = False,
) -> SegmentResult:
    """Masks for the boxes of a COCO file, or for the detections of a trained detector.

    images: folder of the images. boxes: the COCO file. detector: folder of finetune-yolo or
    anomaly; with both, it searches the images that the file lists. trust: folder of calibrate for
    this detector and SAM; without it, masks of found boxes have no expected IoU. Writes COCO
    instances and results, PNG masks, overlays and a page of the least trusted masks into `output`.
    Every box has one row, in its order; failed ones are marked. keep_going: leave out unreadable
    images and faulty boxes. overwrite: delete unfinished work of other settings. A stopped call
    goes on when it is repeated. Raises ConfigError for the trust of another pair and for a wish
    without one, DataError for missing images or boxes, WeightsError.
    """
    faults = Faults(keep_going)
    refuse_without_trust(config, detector, trust)
    prompts = _read_prompts(images, boxes, config, faults)
    reads = [boxes, detector, images, config.heatmaps, folder_of(config.sam), trust]
    record = RunRecord("segment", config.model_dump(mode="json"), reads)
    segmenter = _load_segmenter(config, device)
    labels = load_labels(config, detector, trust, segmenter) if detector and trust else None
    loaded_detector = _load_detector(detector, config, device, labels) if detector else None
    if loaded_detector:
        prompts = replace(prompts, categories=loaded_detector.categories, objects={})
        segmenter = without_calibration(segmenter, labels)
    for weights, sha256 in segmenter.weights.items():
        record.used_weights(weights, sha256)
    with record.resumable_folder(output, overwrite) as folder:
        if finished := record.finished(folder, SegmentResult):
            return finished
        job = Job(prompts, segmenter, loaded_detector, labels, config, folder)
        with WorkLog(folder / LOG, "images", TypeAdapter(ImageCounts)) as log:
            _segment_images(job, log, faults)
            result = _result(output, segmenter.name, log, labels, faults)
            write_logged_coco(folder, prompts, log, partial(_image_keys, log))
            review_logged(folder, prompts, log, _QUALITY, config.review)
        record.write(folder, result)
    return result


def _read_prompts(
    images: Path, boxes: Path | None, config: SegmentConfig, faults: Faults
) -> Dataset:
    """The images, with the boxes of the file if there is one."""
    if boxes:
        prompts = read_coco(boxes, images, SourceLog(faults), exact=True)
    else:
        prompts = list_images_below(images, faults)
    if config.split:
        prompts = prompts.subset([r for r in prompts.records if r.split == config.split])
    prompts = leave_out_outside(prompts, NamedFolders([images], config.allow_outside), faults)
    prompts.refuse_equal_stems()
    return prompts


def _load_detector(
    folder: Path, config: SegmentConfig, device: str, labels: TrustedLabels | None
) -> Detector:
    """The detector; with labels it finds faint objects too, which tell of missed ones."""
    from pipeline.models.load import load_detector
    from pipeline.trust.cross_detection import MAX_BOXES, MIN_CONFIDENCE

    if labels:
        return load_detector(folder, device, MIN_CONFIDENCE, max(MAX_BOXES, config.max_boxes))
    return load_detector(folder, device, config.confidence, config.max_boxes)


def _load_segmenter(config: SegmentConfig, device: str) -> CalibratedSegmenter:
    from pipeline.models.devices import torch_device
    from pipeline.models.sam.model import load_segmenter

    views = config.views.model_dump(exclude_none=True)
    return load_segmenter(config.sam, views, torch_device(device), config.backend, config.cache_gb)


def _segment_images(job: Job, log: ImageLog, faults: Faults) -> None:
    """Segment every image that the log does not hold, in order."""
    left = [record for record in job.prompts.records if record.id not in log]
    if finished := len(log):
        say(f"going on after {finished} images")
    with ThreadPoolExecutor(1) as writer:
        writing: deque[tuple[ImageRecord, Detections, float | None, Future[int]]] = deque()
        for record, image in read_ahead(left, faults, "segment", _AHEAD):
            objects, missed = _segment_image(job, record, image)
            future = writer.submit(_write_pictures, job, record, image, objects)
            writing.append((record, objects, missed, future))
            if len(writing) > _AHEAD:
                _finish(log, *writing.popleft())
        while writing:
            _finish(log, *writing.popleft())


def _finish(
    log: ImageLog,
    record: ImageRecord,
    objects: Detections,
    missed: float | None,
    lost: Future[int],
) -> None:
    """An image is finished when its pictures are written."""
    counts = ImageCounts(len(objects), lost.result(), missed)
    log.add(record.id, counts, row_texts(record, objects))


def _image_keys(log: ImageLog, image: int) -> JsonRow:
    """What an image's entry says beside COCO's keys."""
    counts = log.get(image)
    missed = counts.missed if counts else None
    return {} if missed is None else {"missed_probability": round(missed, 4)}


def _segment_image(job: Job, record: ImageRecord, image: Image) -> tuple[Detections, float | None]:
    """The image's boxes with masks and their quality, and the probability that they miss a defect;
    boxes without a score get the mask's."""
    prompts, missed = job.detector.detect(image) if job.detector else job.prompts.on(record), None
    if job.labels:
        prompts, missed = job.labels.kept(prompts)
    categories = [job.prompts.categories[label] for label in prompts.labels]
    heatmap = _heatmap(job, record, image)
    masks = job.segmenter.segment(image, prompts.boxes, categories, heatmap)
    if job.labels:
        masks = job.labels.add_quality(masks, prompts, categories)
    boxes = _tightened(prompts, masks) if job.config.tighten else prompts.boxes
    scores = prompts.scores
    if scores is None:
        scores = next(masks.quality[name] for name in _QUALITY if name in masks.quality)
    objects = replace(
        prompts,
        boxes=boxes,
        masks=masks.masks,
        scores=scores,
        quality=masks.quality,
        failed=masks.failed,
        prompt_ids=prompts.ids,
        prompt_boxes=prompts.boxes if job.config.tighten else None,
        attributes={},
    )
    return objects, missed


def _tightened(prompts: Detections, masks: Masks) -> NDArray[np.float32]:
    """The bounding boxes of the masks (N, 4); the prompts' own where a mask failed."""
    if not len(prompts):
        return prompts.boxes
    tight = mask_geometry.bounding_boxes(masks.masks)
    return np.where(masks.failed[:, None], prompts.boxes, tight)


def _heatmap(job: Job, record: ImageRecord, image: Image) -> NDArray[np.float32] | None:
    """Heat map (H, W) whose peak in a box is a prompt: of a folder, or of the detector."""
    if job.config.heatmaps:
        return read_heatmap(job.config.heatmaps, record.file_name, record.size)
    return job.detector.heatmap(image) if job.detector else None


def _write_pictures(job: Job, record: ImageRecord, image: Image, objects: Detections) -> int:
    """Write the PNG mask and the overlay; returns the pixels that lie in several masks."""
    if not len(objects):
        return 0
    if job.config.overlays:
        target = job.folder / "overlays" / Path(record.file_name).with_suffix(".png")
        write_png(target, overlay(image, objects, job.prompts.categories))
    return write_png_mask(job.folder / "masks", record, objects)


def _result(
    output: Path, sam: str, log: ImageLog, labels: TrustedLabels | None, faults: Faults
) -> SegmentResult:
    """Counts and means over all images of the log."""
    images = boxes = lost = 0
    for counts in log.values():
        images, boxes, lost = images + 1, boxes + counts.boxes, lost + counts.lost
    sums, failed = sum_figures(log, _QUALITY)
    means = {f"{name}_mean": round(sums[name] / boxes, 4) for name in _QUALITY if boxes}
    return SegmentResult(
        output=output,
        sam=sam,
        images=images,
        boxes=boxes,
        failed=failed,
        pixels_lost_to_overlap_in_png=lost,
        **{name: value for name, value in means.items() if not np.isnan(value)},
        operating_point=labels.point if labels else None,
        faults=tuple(str(error) for error in faults.errors),
    )
