"""Labels of many images: found one image after the other, kept in a work log, and written.

Images are read ahead, and pictures are written while the models work. The work log holds the rows
of the finished images: a stopped run goes on from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.errors import Faults
from pipeline.formats.coco_log import sum_figures, write_logged_coco
from pipeline.formats.coco_rows import JsonRow, row_texts
from pipeline.formats.png_masks import write_png_mask
from pipeline.formats.read_ahead import read_ahead
from pipeline.io.images import Image, write_png
from pipeline.io.work_log import WorkLog
from pipeline.reports.review_page import review_logged
from pipeline.runtime.progress import say
from pipeline.types import EXPECTED_IOU, Dataset, Detections, ImageRecord
from pipeline.visualization.overlays import overlay

QUALITY = (EXPECTED_IOU, "predicted_iou", "stability")  # the first that a mask has is its trust
_AHEAD = 3  # images read before they are needed, and written after
Find = Callable[[ImageRecord, Image], tuple[Detections, float | None]]


@dataclass(frozen=True)
class ImageCounts:
    """Value of an image in the work log: its labels, the pixels that its PNG mask lost, and the
    probability that the labels miss a defect."""

    boxes: int
    lost: int
    missed: float | None = None


ImageLog = WorkLog[ImageCounts]


@dataclass(frozen=True)
class LabelJob:
    """Images to label. dataset: the images, and the categories of the labels. find: the labels of
    an image with masks, and the probability that they miss a defect. folder: where files are
    written. title: of the progress bar."""

    dataset: Dataset
    find: Find
    folder: Path
    title: str
    overlays: bool = True


@dataclass(frozen=True)
class Totals:
    """Over all images: labels, failed masks, pixels that PNG masks lost, and the means of the
    figures that every label has."""

    images: int
    boxes: int
    failed: int
    lost: int
    means: dict[str, float]


def label_images(job: LabelJob, log: ImageLog, faults: Faults) -> None:
    """Label every image that the log does not hold, in order."""
    left = [record for record in job.dataset.records if record.id not in log]
    if finished := len(log):
        say(f"going on after {finished} images")
    with ThreadPoolExecutor(1) as writer:
        writing: deque[tuple[ImageRecord, Detections, float | None, Future[int]]] = deque()
        for record, image in read_ahead(left, faults, job.title, _AHEAD):
            objects, missed = job.find(record, image)
            future = writer.submit(_write_pictures, job, record, image, objects)
            writing.append((record, objects, missed, future))
            if len(writing) > _AHEAD:
                _finish(log, *writing.popleft())
        while writing:
            _finish(log, *writing.popleft())


def write_labels(job: LabelJob, log: ImageLog, review: int) -> None:
    """Write the COCO files, and the page of the `review` least trusted masks."""
    write_logged_coco(job.folder, job.dataset, log, partial(_image_keys, log))
    review_logged(job.folder, job.dataset, log, (*QUALITY, "score"), review)


def totals(log: ImageLog, names: Sequence[str] = QUALITY) -> Totals:
    """Counts and means over all images of the log."""
    images = boxes = lost = 0
    for counts in log.values():
        images, boxes, lost = images + 1, boxes + counts.boxes, lost + counts.lost
    sums, failed = sum_figures(log, names)
    means = {name: round(sums[name] / boxes, 4) for name in names if boxes}
    known = {name: value for name, value in means.items() if not np.isnan(value)}
    return Totals(images, boxes, failed, lost, known)


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


def _write_pictures(job: LabelJob, record: ImageRecord, image: Image, objects: Detections) -> int:
    """Write the PNG mask and the overlay; returns the pixels that lie in several masks."""
    if not len(objects):
        return 0
    if job.overlays:
        target = job.folder / "overlays" / Path(record.file_name).with_suffix(".png")
        write_png(target, overlay(image, objects, job.dataset.categories))
    return write_png_mask(job.folder / "masks", record, objects)
