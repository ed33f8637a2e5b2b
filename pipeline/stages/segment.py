"""`pipeline segment --prompt boxes`: boxes, from a file or a detector, become masks.

A stopped run goes on; see `reports.labelled_images`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline.config.schema import SegmentConfig
from pipeline.errors import Faults
from pipeline.formats.listed_images import listed_images
from pipeline.geometry import masks as mask_geometry
from pipeline.interfaces import Detector
from pipeline.io.heatmaps import read_heatmap
from pipeline.io.images import Image
from pipeline.io.run_record import RunRecord, folder_of
from pipeline.io.work_log import LOG, WorkLog
from pipeline.metrics.operating_points import OperatingPoint
from pipeline.reports.labelled_images import (
    QUALITY,
    ImageCounts,
    ImageLog,
    LabelJob,
    label_images,
    totals,
    write_labels,
)
from pipeline.results import StageResult
from pipeline.runners import PerProcess, Runner, check_runner
from pipeline.trust.labels import (
    TrustedLabels,
    load_labels,
    refuse_without_trust,
    without_calibration,
)
from pipeline.types import Detections, ImageRecord, Masks

if TYPE_CHECKING:
    from pipeline.models.sam.model import CalibratedSegmenter

_DEFAULT = SegmentConfig()


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
class _MaskFinder:
    """All that the masks of an image come from. categories: of the boxes. labels: what is known of
    the detector's. finder: who found the boxes; "" where the file of boxes says it, or nobody."""

    categories: Sequence[str]
    segmenter: CalibratedSegmenter
    detector: Detector | None
    labels: TrustedLabels | None
    config: SegmentConfig
    finder: str = ""

    def find(
        self, record: ImageRecord, image: Image, given: Detections
    ) -> tuple[Detections, float | None]:
        """The given boxes, or the detector's, with masks and their quality, and the probability
        that they miss a defect; boxes without a score get the mask's."""
        prompts = self.detector.detect(image) if self.detector else given
        missed = None
        if self.labels:
            prompts, missed = self.labels.kept(prompts)
        categories = [self.categories[label] for label in prompts.labels]
        heatmap = self._heatmap(record, image)
        masks = self.segmenter.segment(image, prompts.boxes, categories, heatmap)
        if self.labels:
            masks = self.labels.add_quality(masks, prompts, categories)
        boxes = _tightened(prompts, masks) if self.config.tighten else prompts.boxes
        scores = prompts.scores
        if scores is None:
            scores = next(masks.quality[name] for name in QUALITY if name in masks.quality)
        objects = replace(
            prompts,
            boxes=boxes,
            masks=masks.masks,
            scores=scores,
            quality=masks.quality,
            failed=masks.failed,
            prompt_ids=prompts.ids,
            prompt_boxes=prompts.boxes if self.config.tighten else None,
            finders=(self.finder,) * len(prompts) if self.finder else prompts.finders,
            attributes={},
        )
        return objects, missed

    def _heatmap(self, record: ImageRecord, image: Image) -> NDArray[np.float32] | None:
        """Heat map (H, W) whose peak in a box is a prompt: of a folder, or of the detector."""
        if self.config.heatmaps:
            return read_heatmap(self.config.heatmaps, record.file_name, record.size)
        return self.detector.heatmap(image) if self.detector else None


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
    runner: Runner = "local",
    workers: int = 1,
) -> SegmentResult:
    """Masks for the boxes of a COCO file, or for the detections of a trained detector.

    images: folder of the images. boxes: the COCO file. detector: folder of finetune-yolo or
    anomaly; with both, it searches the images that the file lists. trust: folder of calibrate for
    this detector and SAM; without it, masks of found boxes have no expected IoU. Writes COCO
    instances and results, PNG masks, overlays and a page of the least trusted masks into `output`.
    Every box has one row, in its order; failed ones are marked. keep_going: leave out unreadable
    images and faulty boxes. overwrite: delete unfinished work of other settings. runner,
    workers: where the work is done, and by how many processes, each with its own models; the bytes
    are the same. A stopped call goes on when it is repeated. Raises ConfigError for the trust of
    another pair and for a wish without one, DataError for missing images or boxes, WeightsError.
    """
    check_runner(runner, workers)
    faults = Faults(keep_going)
    refuse_without_trust(config, detector, trust)
    prompts = listed_images(images, boxes, config.split, config.allow_outside, faults)
    reads = [boxes, detector, images, config.heatmaps, folder_of(config.sam), trust]
    record = RunRecord("segment", config.model_dump(mode="json"), reads)
    models = PerProcess(partial(_load_models, config, device, detector, trust, prompts.categories))
    own = models.get()
    if own.detector:
        prompts = replace(prompts, categories=own.detector.categories, objects={})
    for weights, sha256 in own.segmenter.weights.items():
        record.used_weights(weights, sha256)
    with record.resumable_folder(output, overwrite) as folder:
        if finished := record.finished(folder, SegmentResult):
            return finished
        job = LabelJob(prompts, models, _MaskFinder.find, folder, "segment", config.overlays)
        with WorkLog(folder / LOG, "images", TypeAdapter(ImageCounts)) as log:
            label_images(job, log, faults, runner, workers)
            result = _result(output, own, log, faults)
            write_labels(job, log, config.review)
        record.write(folder, result)
    return result


def _load_models(
    config: SegmentConfig, device: str, detector: Path | None, trust: Path | None,
    categories: Sequence[str],
) -> _MaskFinder:  # fmt: skip
    """The models of one process. categories: of boxes that are given."""
    from pipeline.models.load import finder_of

    segmenter = _load_segmenter(config, device)
    if detector is None:
        return _MaskFinder(categories, segmenter, None, None, config)
    labels = load_labels(config, detector, trust, segmenter) if trust else None
    loaded = _load_detector(detector, config, device, labels)
    segmenter = without_calibration(segmenter, labels)
    return _MaskFinder(loaded.categories, segmenter, loaded, labels, config, finder_of(detector))


def _load_detector(
    folder: Path, config: SegmentConfig, device: str, labels: TrustedLabels | None
) -> Detector:
    """The detector; with labels it finds faint objects too, which tell of missed ones."""
    from pipeline.models.load import load_detector
    from pipeline.trust.cross_detection import MAX_BOXES, MIN_CONFIDENCE

    confidence, most = config.confidence, config.max_boxes
    if labels:
        confidence, most = MIN_CONFIDENCE, max(MAX_BOXES, most)
    return load_detector(folder, device, confidence, most, config.backend, config.cache_gb)


def _load_segmenter(config: SegmentConfig, device: str) -> CalibratedSegmenter:
    from pipeline.models.devices import torch_device
    from pipeline.models.sam.model import load_segmenter

    views = config.views.model_dump(exclude_none=True)
    return load_segmenter(config.sam, views, torch_device(device), config.backend, config.cache_gb)


def _tightened(prompts: Detections, masks: Masks) -> NDArray[np.float32]:
    """The bounding boxes of the masks (N, 4); the prompts' own where a mask failed."""
    if not len(prompts):
        return prompts.boxes
    tight = mask_geometry.bounding_boxes(masks.masks)
    return np.where(masks.failed[:, None], prompts.boxes, tight)


def _result(output: Path, models: _MaskFinder, log: ImageLog, faults: Faults) -> SegmentResult:
    """Counts and means over all images of the log."""
    total = totals(log)
    return SegmentResult(
        output=output,
        sam=models.segmenter.name,
        images=total.images,
        boxes=total.boxes,
        failed=total.failed,
        pixels_lost_to_overlap_in_png=total.lost,
        **{f"{name}_mean": value for name, value in total.means.items()},
        operating_point=models.labels.point if models.labels else None,
        faults=faults.lines,
    )
