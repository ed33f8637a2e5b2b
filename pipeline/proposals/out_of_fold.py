"""Finders on photos that they did not learn from: each photo by models of the folds without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch

from pipeline.errors import ConfigError, DataError, Faults
from pipeline.interfaces import Detector
from pipeline.io.images import read_image
from pipeline.models.anomaly.detector import AnomalyDetector, load_anomaly_detector
from pipeline.models.backends import Backend
from pipeline.models.segmentation.model import DefectSegmenter, load_defect_segmenter
from pipeline.models.yolo_world.detector import load_finetuned
from pipeline.proposals.candidates import Candidate, Evidence, candidates
from pipeline.proposals.choices import Finder
from pipeline.proposals.fit import LabelledImage
from pipeline.proposals.labeller import relative_heat
from pipeline.runtime.progress import track
from pipeline.trust.cross_detection import MAX_BOXES, MIN_CONFIDENCE
from pipeline.trust.fold_segmenters import FoldSegmenters
from pipeline.trust.searched import Searched, labelled_images, out_of_fold, with_categories
from pipeline.types import Detections, Image, ImageRecord


@dataclass(frozen=True)
class SamOptions:
    """name: of a SAM, or its folder; "" for none. The rest as in `load_segmenter`."""

    name: str
    backend: Backend
    cache_gb: float


@dataclass(frozen=True)
class OutOfFoldFinders:
    """The models. detections: of the detector, on each photo of its folds. detector: for other
    photos, which it did not learn from. Those beside the segmenter are None where they are not
    given."""

    segmenter: DefectSegmenter
    sams: FoldSegmenters | None
    detections: Searched | None
    anomaly: AnomalyDetector | None
    detector: Callable[[], Detector] | None = None

    @property
    def names(self) -> list[Finder]:
        """Those beside the segmenter."""
        given: dict[Finder, object] = {
            "sam": self.sams, "detector": self.detections, "anomaly": self.anomaly,
        }  # fmt: skip
        return [name for name, model in given.items() if model is not None]

    def search(self, data: Path, faults: Faults) -> list[LabelledImage]:
        """The candidates on each photo of train and val of a folder of convert-masks."""
        truth = labelled_images(data, ("train", "val"), faults)
        truth = with_categories(truth, self.segmenter.categories)
        searched = self.detections.truth.records if self.detections else ()
        by_name = {record.file_name: record for record in searched}
        images = []
        for record in track(truth.records, "search labelled photos"):
            try:
                image = read_image(record.path)
                rows = self._candidates(_group(record), image, by_name.get(record.file_name))
            except DataError as error:
                faults.add(error)
                continue
            images.append(LabelledImage(_group(record), truth.on(record), tuple(rows)))
        return images

    def _candidates(
        self, group: str, image: Image, searched: ImageRecord | None
    ) -> list[Candidate]:
        """searched: the photo in the detector's own list; None where it did not search it."""
        evidence = Evidence(
            self.segmenter.defect_map(image, group),
            self._detections(searched, image),
            relative_heat(self.anomaly, image) if self.anomaly else None,
        )
        sam = self.sams.of(group) if self.sams else None
        return candidates(image, evidence, self.segmenter.region_options, sam)

    def _detections(self, searched: ImageRecord | None, image: Image) -> Detections | None:
        """None without a detector. A photo of none of its folds is new to it: it is searched."""
        if self.detections is None or self.detector is None:
            return None
        return (
            self.detections.find(searched, image)[0] if searched else self.detector().detect(image)
        )


def load_out_of_fold(
    data: Path,
    segmenter: Path,
    sam: SamOptions,
    detector: Path | None,
    anomaly: Path | None,
    device: torch.device,
    faults: Faults,
) -> OutOfFoldFinders:
    """The finders of these folders, which learned from `data`. Raises ConfigError for a segmenter,
    a SAM or a detector without folds, DataError, WeightsError."""
    model = load_defect_segmenter(segmenter, device, backend=sam.backend, cache_gb=sam.cache_gb)
    if not any(member.unseen for member in model.members):
        raise ConfigError(
            f"{segmenter}: has one network that learned from all photos; train it again with "
            "finetune-segmenter --folds 2 or more"
        )
    return OutOfFoldFinders(
        model,
        FoldSegmenters(sam.name, device, sam.backend, sam.cache_gb) if sam.name else None,
        out_of_fold(detector, data, faults) if detector else None,
        load_anomaly_detector(anomaly, device) if anomaly else None,
        cache(partial(load_finetuned, detector, MIN_CONFIDENCE, str(device), MAX_BOXES))
        if detector
        else None,
    )


def _group(record: ImageRecord) -> str:
    return record.group or record.file_name
