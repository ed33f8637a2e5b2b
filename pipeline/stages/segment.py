"""`pipeline segment --prompt boxes`: boxes, from a file or a detector, become masks.

Images are read ahead and pictures written behind while SAM works. What is finished stands in a
journal, so that a stopped run goes on where it was, however it was stopped.
"""

from __future__ import annotations

import json
from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from pipeline.config.schema import SegmentConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.coco import image_text, read_coco, result_text, row_texts
from pipeline.formats.coco_masks import segmentation_rle
from pipeline.formats.coco_stream import coco_writer, write_rows
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.png_masks import write_png_mask
from pipeline.formats.values import as_data_error
from pipeline.geometry import masks as mask_geometry
from pipeline.io.images import Image, images_below, read_heatmap, read_image, read_size, write_png
from pipeline.io.manifest import WORK
from pipeline.io.run_record import RunRecord, folder_of
from pipeline.io.work_log import WorkLog
from pipeline.reports.review_page import ReviewMask, review_page
from pipeline.runtime.progress import say, track
from pipeline.types import EXPECTED_IOU, Dataset, Detections, Detector, ImageRecord, split_of
from pipeline.visualization.overlays import overlay

if TYPE_CHECKING:
    from pipeline.models.sam.model import CalibratedSegmenter

_JOURNAL = f"{WORK}/rows.journal"
_AHEAD = 3  # images read before they are needed, and written after
_QUALITY = (EXPECTED_IOU, "predicted_iou", "stability")


class Note(TypedDict):
    """What the journal notes of an image: its boxes, and the pixels that its PNG mask lost."""

    boxes: int
    lost: int


_NOTE = TypeAdapter(Note)


@dataclass(frozen=True)
class Job:
    """All that the masks of one image come from."""

    prompts: Dataset
    segmenter: CalibratedSegmenter
    finder: Detector | None
    config: SegmentConfig
    folder: Path


def segment(
    output: Path,
    images: Path,
    config: SegmentConfig,
    device: str,
    boxes: Path | None = None,
    detector: Path | None = None,
    keep_going: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Masks for the boxes in a COCO file, or for what the detector of a run finds.

    With both, the detector searches the images that the file lists. Writes COCO instances and
    results, PNG masks, overlays and a page of the least trusted masks into `output`. Every box has
    one row, in its order; failed ones are marked. A call that was stopped is taken up by the same
    call. Raises DataError for missing images or boxes, WeightsError.
    """
    from pipeline.models.devices import torch_device
    from pipeline.models.sam.model import load_segmenter

    faults = Faults(keep_going)
    prompts = read_coco(boxes, images) if boxes else _list_images(images, faults)
    if config.split:
        prompts = prompts.subset([r for r in prompts.records if r.split == config.split])
    prompts = _inside(prompts, NamedFolders([images], config.allow_outside), faults)
    prompts.refuse_equal_stems()
    settings = config.model_dump(mode="json")
    reads = [boxes, detector, images, config.heatmaps, folder_of(config.sam)]
    record = RunRecord("segment", settings, reads)
    finder = _load_detector(detector, config, device) if detector else None
    if finder:
        prompts = replace(prompts, categories=finder.categories, objects={})
    chosen = config.views.model_dump(exclude_none=True)
    segmenter = load_segmenter(
        config.sam, chosen, torch_device(device), config.backend, config.cache_gb
    )
    for weights, sha256 in segmenter.used.items():
        record.used_weights(weights, sha256)
    with record.resumable_folder(output, overwrite) as folder:
        if done := record.finished(folder):
            return done
        job = Job(prompts, segmenter, finder, config, folder)
        with WorkLog(folder / _JOURNAL, _NOTE) as journal:
            _work(job, journal, faults)
            summary = {
                "output": str(output),
                "sam": segmenter.name,
                **_totals(journal),
                "faults": [str(error) for error in faults.found],
            }
            _write_coco(folder, prompts, journal)
            _write_review(folder, prompts, journal, config.review)
        record.write(folder, summary)
    return summary


def _work(job: Job, journal: WorkLog, faults: Faults) -> None:
    """Every image that the journal does not know, in order."""
    left = [r for r in job.prompts.records if r.id not in journal.done]
    if journal.done:
        say(f"going on after {len(journal.done)} images")
    with ThreadPoolExecutor(1) as writer:
        behind: deque[tuple[ImageRecord, Detections, Future[int]]] = deque()
        for record, image in _read_ahead(left, faults):
            found = _found(job, record, image)
            behind.append((record, found, writer.submit(_draw, job, record, image, found)))
            if len(behind) > _AHEAD:
                _finish(journal, *behind.popleft())
        while behind:
            _finish(journal, *behind.popleft())


def _finish(journal: WorkLog, record: ImageRecord, found: Detections, drawn: Future[int]) -> None:
    """An image is done once its pictures are on the disk."""
    note = {"boxes": len(found), "lost": drawn.result()}
    journal.add(record.id, row_texts(record, found), note)


def _read_ahead(records: list[ImageRecord], faults: Faults) -> Iterator[tuple[ImageRecord, Image]]:
    """Each image with its record; one that cannot be read, or has another size, is a fault."""
    with ThreadPoolExecutor(1) as reader:
        coming: deque[Future[Image]] = deque()
        waiting = iter(records)
        for record in track(records, "segment"):
            while len(coming) < _AHEAD and (following := next(waiting, None)):
                coming.append(reader.submit(_read, following))
            try:
                image = coming.popleft().result()
            except DataError as error:
                faults.add(error)
                continue
            yield record, image


def _read(record: ImageRecord) -> Image:
    image = read_image(record.path)
    if image.shape[:2] != record.size:
        height, width = image.shape[:2]
        raise DataError(
            record.path,
            f"is {width}x{height}, but the boxes are for {record.width}x{record.height}",
            "give the images that the boxes were drawn on",
        )
    return image


def _found(job: Job, record: ImageRecord, image: Image) -> Detections:
    """The image's boxes with masks, and how far to trust each; that is the score where the boxes
    had none."""
    found = job.finder.detect(image) if job.finder else job.prompts.on(record)
    heatmap = _heatmap(job, record, image)
    kinds = [job.prompts.categories[label] for label in found.labels]
    masks = job.segmenter.cut(image, found.boxes, kinds, heatmap)
    trusted = next(masks.quality[name] for name in _QUALITY if name in masks.quality)
    boxes = found.boxes
    if job.config.tighten:
        tight = mask_geometry.bounding_boxes(masks.masks)
        boxes = np.where(masks.failed[:, None], boxes, tight) if len(boxes) else boxes
    scores = found.scores if found.scores is not None else trusted
    return replace(
        found,
        boxes=boxes,
        masks=masks.masks,
        scores=scores,
        quality=masks.quality,
        failed=masks.failed,
        prompt_ids=found.ids,
        prompt_boxes=found.boxes if job.config.tighten else None,
        attributes={},
    )


def _heatmap(job: Job, record: ImageRecord, image: Image) -> NDArray[np.float32] | None:
    """Where in a box to look: of a folder of maps, or of a finder that has one."""
    from pipeline.models.anomaly.detector import AnomalyDetector

    folder = job.config.heatmaps
    if folder:
        return read_heatmap(folder, record.file_name, record.size)
    finder = job.finder
    return finder.anomaly_map(image).heatmap if isinstance(finder, AnomalyDetector) else None


def _draw(job: Job, record: ImageRecord, image: Image, found: Detections) -> int:
    """Write the PNG mask and the overlay; returns the pixels that lie in several masks."""
    if not len(found):
        return 0
    if job.config.overlays:
        target = job.folder / "overlays" / Path(record.file_name).with_suffix(".png")
        write_png(target, overlay(image, found, job.prompts.categories))
    return write_png_mask(job.folder / "masks", record, found)


def _write_coco(folder: Path, prompts: Dataset, journal: WorkLog) -> None:
    """Instances and results out of the journal, in the order of the boxes they answer."""
    places, answered = array("q"), array("q")
    for place, row in journal.rows():
        places.append(place)
        answered.append(json.loads(row).get("prompt_id", 0))
    order = np.argsort(np.asarray(answered, np.int64), kind="stable")
    with coco_writer(folder / "instances.json", prompts.categories) as writer:
        for record in prompts.records:
            if record.id in journal.done:
                writer.add_image(image_text(record))
        writer.add_rows(journal.row_at(places[index]) for index in order)
    results = (result_text(journal.row_at(places[index])) for index in order)
    write_rows(folder / "results.json", results)


def _write_review(folder: Path, prompts: Dataset, journal: WorkLog, count: int) -> None:
    """The page of the `count` least trusted masks."""
    places, trust, figure = array("q"), array("d"), ""
    for place, text in journal.rows():
        row = json.loads(text)
        figure = next(name for name in _QUALITY if name in row)
        places.append(place)
        trust.append(row[figure])
    values = np.asarray(trust)
    least = np.argsort(values, kind="stable")[:count]
    if not len(least):
        return
    records = {record.id: record for record in prompts.records}
    rows = [json.loads(journal.row_at(places[index])) for index in least]
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


def _totals(journal: WorkLog) -> dict[str, Any]:
    """What all images together came to, from the journal."""
    notes = [(int(note["boxes"]), int(note["lost"])) for note in journal.notes()]
    sums = dict.fromkeys(_QUALITY, 0.0)
    failed = 0
    for _, text in journal.rows():
        row: Mapping[str, Any] = json.loads(text)
        failed += bool(row["failed"])
        for name in _QUALITY:
            sums[name] += float(row.get(name, float("nan")))
    boxes = sum(count for count, _ in notes)
    means = {f"{name}_mean": round(sums[name] / boxes, 4) for name in _QUALITY if boxes}
    return {
        "images": len(notes),
        "boxes": boxes,
        "failed": failed,
        "pixels_lost_to_overlap_in_png": sum(lost for _, lost in notes),
        **{name: value for name, value in means.items() if not np.isnan(value)},
    }


def _load_detector(run: Path, config: SegmentConfig, device: str) -> Detector:
    from pipeline.models.load import load_detector

    return load_detector(run, device, config.confidence, config.max_boxes)


def _inside(prompts: Dataset, folders: NamedFolders, faults: Faults) -> Dataset:
    """The images that do not lead out of their folder by a link."""
    kept = []
    for record in prompts.records:
        try:
            folders.refuse_outside(record.path)
        except DataError as error:
            faults.add(error)
            continue
        kept.append(record)
    return prompts.subset(kept)


def _list_images(images: Path, faults: Faults) -> Dataset:
    if not images.is_dir():
        raise DataError(images, "no such folder", "check --images")
    records: list[ImageRecord] = []
    for path in images_below(images):
        name = path.relative_to(images).as_posix()
        try:
            height, width = read_size(path)
            with as_data_error(path, "", "rename it"):
                entry = ImageRecord(
                    len(records) + 1, path, name, height, width, split=split_of(name)
                )
        except DataError as error:
            faults.add(error)
            continue
        records.append(entry)
    if not records:
        raise DataError(images, "holds no image", "check --images")
    return Dataset((), tuple(records))
