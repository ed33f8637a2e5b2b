"""Labels of many images: found in one process or in several, kept in a work log, and written.

Images are read ahead, and pictures are written while the models work. The work log holds the rows
of the finished images in their order: a stopped run goes on from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from pipeline.errors import DataError, Faults
from pipeline.formats.coco_log import sum_figures, write_logged_coco
from pipeline.formats.coco_rows import JsonRow, row_texts
from pipeline.formats.png_masks import write_png_mask
from pipeline.formats.read_ahead import read_ahead
from pipeline.io.images import Image, write_png
from pipeline.io.work_log import WorkLog
from pipeline.reports.review_page import review_logged
from pipeline.runners import PerProcess, Runner, map_batches
from pipeline.runtime.progress import say, track
from pipeline.types import EXPECTED_IOU, Dataset, Detections, ImageRecord
from pipeline.visualization.overlays import overlay

QUALITY = (EXPECTED_IOU, "predicted_iou", "stability")  # the first that a mask has is its trust
_AHEAD = 3  # images read before they are needed, and written after
_BATCH = 4  # images that a process takes at once
Models = TypeVar("Models")
Found = tuple[Detections, float | None]  # labels, and the probability that they miss a defect
Find = Callable[[Models, ImageRecord, Image, Detections], Found]


@dataclass(frozen=True)
class ImageCounts:
    """Value of an image in the work log: its labels, the pixels that its PNG mask lost, and the
    probability that the labels miss a defect."""

    boxes: int
    lost: int
    missed: float | None = None


ImageLog = WorkLog[ImageCounts]


class LabelsImages(Protocol):
    """Labels images without a prompt."""

    def label(self, image: Image) -> Found:
        """The labels of an image (H, W, 3) uint8 RGB, and the probability that they miss a
        defect."""


def label_alone(model: LabelsImages, record: ImageRecord, image: Image, given: Detections) -> Found:
    """The labels of a model that needs no prompt: a `Find`."""
    del record, given
    return model.label(image)


@dataclass(frozen=True)
class LabelJob(Generic[Models]):
    """Images to label. dataset: the images, what is given of them, and the categories of the
    labels. models: made once in each process. find: the labels of an image with masks, by the
    models, from the objects that `dataset` has on it. folder: where files are written. title: of
    the progress bar."""

    dataset: Dataset
    models: PerProcess[Models]
    find: Find[Models]
    folder: Path
    title: str
    overlays: bool = True


@dataclass(frozen=True)
class LabelledImage:
    """What the work log keeps of an image."""

    counts: ImageCounts
    rows: Sequence[str]


@dataclass(frozen=True)
class Totals:
    """Over all images: labels, failed masks, pixels that PNG masks lost, and the means of the
    figures that every label has."""

    images: int
    boxes: int
    failed: int
    lost: int
    means: dict[str, float]


def label_images(
    job: LabelJob[Models],
    log: ImageLog,
    faults: Faults,
    runner: Runner = "local",
    workers: int = 1,
) -> None:
    """Label every image that the log does not hold. runner, workers: see `map_batches`."""
    left = [record for record in job.dataset.records if record.id not in log]
    if finished := len(log):
        say(f"going on after {finished} images")
    items = [(record, job.dataset.on(record)) for record in left]
    work = _Labelling(
        job.models, job.find, job.folder, job.dataset.categories if job.overlays else None
    )
    with closing(map_batches(work, items, runner, workers, _BATCH)) as done:
        for record, made in zip(left, track(done, job.title, len(left)), strict=True):
            if isinstance(made, DataError):
                faults.add(made)
            else:
                log.add(record.id, made.counts, made.rows)


def write_labels(job: LabelJob[Any], log: ImageLog, review: int) -> None:
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


@dataclass(frozen=True)
class _Labelling(Generic[Models]):
    """The work on images, in any process. categories: for overlays; None without these."""

    models: PerProcess[Models]
    find: Find[Models]
    folder: Path
    categories: Sequence[str] | None

    def __call__(
        self, items: Sequence[tuple[ImageRecord, Detections]]
    ) -> Iterator[LabelledImage | DataError]:
        """Each image's labels, or why it cannot be read. An image is done when its pictures are
        written."""
        models = self.models.get()
        writing: deque[Future[LabelledImage] | DataError] = deque()
        with ThreadPoolExecutor(1) as writer:
            images = read_ahead([record for record, _ in items], _AHEAD)
            for (record, given), image in zip(items, images, strict=True):
                if isinstance(image, DataError):
                    writing.append(image)
                else:
                    found = self.find(models, record, image, given)
                    writing.append(writer.submit(self._written, record, image, *found))
                if len(writing) > _AHEAD:
                    yield _result(writing.popleft())
            while writing:
                yield _result(writing.popleft())

    def _written(
        self, record: ImageRecord, image: Image, objects: Detections, missed: float | None
    ) -> LabelledImage:
        """An image's labels, after its PNG mask and overlay."""
        lost = 0
        if len(objects):
            if self.categories is not None:
                target = self.folder / "overlays" / Path(record.file_name).with_suffix(".png")
                write_png(target, overlay(image, objects, self.categories))
            lost = write_png_mask(self.folder / "masks", record, objects)
        counts = ImageCounts(len(objects), lost, missed)
        return LabelledImage(counts, row_texts(record, objects))


def _result(made: Future[LabelledImage] | DataError) -> LabelledImage | DataError:
    return made if isinstance(made, DataError) else made.result()


def _image_keys(log: ImageLog, image: int) -> JsonRow:
    """What an image's entry says beside COCO's keys."""
    counts = log.get(image)
    missed = counts.missed if counts else None
    return {} if missed is None else {"missed_probability": round(missed, 4)}
