"""`pipeline segment --prompt boxes`: boxes, from a file or a detector, become masks.

Images are read ahead, and pictures are written while SAM works. The work log holds the rows of the
finished images: a stopped run goes on from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline.config.schema import SegmentConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.coco_log import rows_with_least, sum_figures, write_logged_coco
from pipeline.formats.coco_masks import segmentation_rle
from pipeline.formats.coco_rows import row_texts
from pipeline.formats.image_files import NamedFolders, leave_out_outside, list_images_below
from pipeline.formats.png_masks import write_png_mask
from pipeline.formats.source import SourceLog
from pipeline.geometry import masks as mask_geometry
from pipeline.interfaces import Detector
from pipeline.io.heatmaps import read_heatmap
from pipeline.io.images import Image, read_image, refuse_other_size, write_png
from pipeline.io.run_record import RunRecord, folder_of
from pipeline.io.work_log import LOG, WorkLog
from pipeline.reports.review_page import ReviewMask, review_page
from pipeline.results import StageResult
from pipeline.runtime.progress import say, track
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
    a PNG mask gives to one. faults: a line for each image that was left out.
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
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageCounts:
    """Value of an image in the work log: its boxes, and the pixels that its PNG mask lost."""

    boxes: int
    lost: int


ImageLog = WorkLog[ImageCounts]


@dataclass(frozen=True)
class Job:
    """All that the masks of one image come from. folder: where the files are written."""

    prompts: Dataset
    segmenter: CalibratedSegmenter
    detector: Detector | None
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
    keep_going: bool = False,
    overwrite: bool = False,
) -> SegmentResult:
    """Masks for the boxes of a COCO file, or for the detections of a trained detector.

    images: folder of the images. boxes: the COCO file. detector: folder of finetune-yolo or
    anomaly; with both, it searches the images that the file lists. Writes COCO instances and
    results, PNG masks, overlays and a page of the least trusted masks into `output`. Every box has
    one row, in its order; failed ones are marked. keep_going: leave out unreadable images
    and faulty boxes.
    overwrite: delete unfinished work of other settings. A stopped call goes on when it is repeated.
    Raises DataError for missing images or boxes, WeightsError.
    """
    faults = Faults(keep_going)
    prompts = _read_prompts(images, boxes, config, faults)
    reads = [boxes, detector, images, config.heatmaps, folder_of(config.sam)]
    record = RunRecord("segment", config.model_dump(mode="json"), reads)
    loaded_detector = _load_detector(detector, config, device) if detector else None
    if loaded_detector:
        prompts = replace(prompts, categories=loaded_detector.categories, objects={})
    segmenter = _load_segmenter(config, device)
    for weights, sha256 in segmenter.weights.items():
        record.used_weights(weights, sha256)
    with record.resumable_folder(output, overwrite) as folder:
        if finished := record.finished(folder, SegmentResult):
            return finished
        job = Job(prompts, segmenter, loaded_detector, config, folder)
        with WorkLog(folder / LOG, "images", TypeAdapter(ImageCounts)) as log:
            _segment_images(job, log, faults)
            result = _result(output, segmenter.name, log, faults)
            write_logged_coco(folder, prompts, log)
            _write_review(folder, prompts, log, config.review)
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


def _load_detector(folder: Path, config: SegmentConfig, device: str) -> Detector:
    from pipeline.models.load import load_detector

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
        writing: deque[tuple[ImageRecord, Detections, Future[int]]] = deque()
        for record, image in _read_ahead(left, faults):
            objects = _segment_image(job, record, image)
            future = writer.submit(_write_pictures, job, record, image, objects)
            writing.append((record, objects, future))
            if len(writing) > _AHEAD:
                _finish(log, *writing.popleft())
        while writing:
            _finish(log, *writing.popleft())


def _finish(log: ImageLog, record: ImageRecord, objects: Detections, lost: Future[int]) -> None:
    """An image is finished when its pictures are written."""
    log.add(record.id, ImageCounts(len(objects), lost.result()), row_texts(record, objects))


def _read_ahead(records: list[ImageRecord], faults: Faults) -> Iterator[tuple[ImageRecord, Image]]:
    """Each image with its record; one that cannot be read, or has another size, is a fault."""
    with ThreadPoolExecutor(1) as reader:
        reading: deque[Future[Image]] = deque()
        waiting = iter(records)
        for record in track(records, "segment"):
            while len(reading) < _AHEAD and (following := next(waiting, None)):
                reading.append(reader.submit(_read, following))
            try:
                image = reading.popleft().result()
            except DataError as error:
                faults.add(error)
                continue
            yield record, image


def _read(record: ImageRecord) -> Image:
    image = read_image(record.path)
    if image.shape[:2] != record.size:
        refuse_other_size(record.path, record.size)
    return image


def _segment_image(job: Job, record: ImageRecord, image: Image) -> Detections:
    """The image's boxes with masks and their quality; boxes without a score get the mask's."""
    prompts = job.detector.detect(image) if job.detector else job.prompts.on(record)
    categories = [job.prompts.categories[label] for label in prompts.labels]
    heatmap = _heatmap(job, record, image)
    masks = job.segmenter.segment(image, prompts.boxes, categories, heatmap)
    boxes = _tightened(prompts, masks) if job.config.tighten else prompts.boxes
    scores = prompts.scores
    if scores is None:
        scores = next(masks.quality[name] for name in _QUALITY if name in masks.quality)
    return replace(
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


def _write_review(folder: Path, prompts: Dataset, log: ImageLog, count: int) -> None:
    """Page of the `count` least trusted masks."""
    figure, values, rows = rows_with_least(log, _QUALITY, count)
    if not rows:
        return
    records = {record.id: record for record in prompts.records}
    masks = [
        ReviewMask(
            record := records[row["image_id"]],
            prompts.categories[row["category_id"] - 1],
            tuple(row["bbox"]),
            segmentation_rle(row["segmentation"], record.size),
            None if row["failed"] else row[figure],
        )
        for row in rows
    ]
    review_page(folder / "review.html", masks, figure, values)


def _result(output: Path, sam: str, log: ImageLog, faults: Faults) -> SegmentResult:
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
        faults=tuple(str(error) for error in faults.errors),
    )
