"""`pipeline combine`: the finders of a product become one labeller.

On each labelled photo the candidates are of models that did not learn from it. Compared with the
truth, they say which finders gain, whose masks are better, how probable each candidate is, and how
good its mask.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config.schema import CombineConfig
from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.converted_set import leak_mark
from pipeline.io.images import read_image
from pipeline.io.run_record import RunRecord, folder_of
from pipeline.io.write import write_json
from pipeline.metrics.found_masks import TESTED_MASKS
from pipeline.metrics.label_quality import LabelQuality
from pipeline.metrics.operating_points import MeanInterval, operating_point
from pipeline.proposals.choices import Finder, Gain, Refinement
from pipeline.reports.trust import FoundScore, found_score
from pipeline.results import StageResult
from pipeline.runtime.progress import say, track
from pipeline.types import Detections, Image
from pipeline.visualization.plots import reliability_panels

if TYPE_CHECKING:
    import torch

    from pipeline.models.anomaly.detector import AnomalyDetector
    from pipeline.models.segmentation.model import DefectSegmenter
    from pipeline.proposals.candidates import Candidate
    from pipeline.proposals.card import LabellerKnowledge
    from pipeline.proposals.fit import LabelledImage, LabellerFit
    from pipeline.trust.fold_segmenters import FoldSegmenters
    from pipeline.trust.searched import Searched

_DEFAULT = CombineConfig()


@dataclass(frozen=True, kw_only=True)
class CombineResult(StageResult):
    """What the labels of the labeller are worth, on photos that none of its models learned from.

    finders: those that are used beside the segmenter; gains: what each that was given adds.
    refinement: where SAM's mask replaces the segmenter's. labels: at the chosen confidence.
    expected_iou: how that of the labels holds. recall, false_alarms: what the confidence reaches.
    All these are empty where candidates are too few. split_leaks, faults: as in `finetune_yolo`.
    """

    output: Path
    photos: int
    candidates: int
    finders: tuple[Finder, ...] = ()
    gains: dict[Finder, Gain] = field(default_factory=dict)
    refinement: Refinement | None = None
    confidence: float
    labels: LabelQuality | None = None
    expected_iou: FoundScore | None = None
    recall: MeanInterval | None = None
    false_alarms: MeanInterval | None = None
    split_leaks: str | None = None
    faults: tuple[str, ...] = ()


def combine(
    data: Path,
    segmenter: Path,
    output: Path,
    config: CombineConfig = _DEFAULT,
    *,
    detector: Path | None = None,
    anomaly: Path | None = None,
    device: str = "auto",
    keep_going: bool = False,
) -> CombineResult:
    """Learn from train and val of a folder of convert-masks how to join the finders, and write a
    labeller, which holds copies of the models that gain.

    segmenter: folder of finetune-segmenter with folds. config.sam: a SAM, tuned with folds or
    published; "" for none. detector: folder of finetune-yolo with folds. anomaly: folder of
    anomaly. With too few candidates the labels are the segmenter's own. Raises ConfigError for
    models without folds.
    """
    from pipeline.models.devices import torch_device
    from pipeline.proposals.card import SEGMENTER, knowledge

    faults = Faults(keep_going)
    tuned = folder_of(config.sam) if config.sam else None
    reads = [
        data / "annotations", data / "images", segmenter, tuned, detector, anomaly,
    ]  # fmt: skip
    record = RunRecord("combine", config.model_dump(mode="json"), reads)
    models = _Models.load(segmenter, config, detector, anomaly, data, torch_device(device), faults)
    images = models.searched(data, faults)
    fit = _fit(images, models)
    with record.whole_folder(output) as folder:
        sources = {"sam": tuned, "detector": detector, "anomaly": anomaly}
        published = None if tuned else config.sam
        own = models.segmenter
        known = knowledge(fit, own.categories, published, own.confidence)
        _copy(folder, known, {SEGMENTER: segmenter, **sources})
        result = _written(folder, images, fit, own.confidence)
        result = replace(result, output=output, split_leaks=leak_mark(data), faults=faults.lines)
        record.write(folder, result)
    return result


@dataclass(frozen=True)
class _Models:
    """Models that judge photos which they did not learn from."""

    segmenter: DefectSegmenter
    sams: FoldSegmenters | None
    detections: Searched | None
    anomaly: AnomalyDetector | None

    @classmethod
    def load(
        cls,
        segmenter: Path,
        config: CombineConfig,
        detector: Path | None,
        anomaly: Path | None,
        data: Path,
        device: torch.device,
        faults: Faults,
    ) -> _Models:
        from pipeline.models.anomaly.detector import load_anomaly_detector
        from pipeline.models.segmentation.model import load_defect_segmenter
        from pipeline.trust.fold_segmenters import FoldSegmenters
        from pipeline.trust.searched import out_of_fold

        model = load_defect_segmenter(segmenter, device)
        if not any(member.unseen for member in model.members):
            raise ConfigError(
                f"{segmenter}: has one network that learned from all photos; train it again with "
                "finetune-segmenter --folds 2 or more"
            )
        return cls(
            model,
            FoldSegmenters(config.sam, device, config.backend, config.cache_gb)
            if config.sam
            else None,
            out_of_fold(detector, data, faults) if detector else None,
            load_anomaly_detector(anomaly, device) if anomaly else None,
        )

    @property
    def finders(self) -> list[Finder]:
        """Those beside the segmenter."""
        given: dict[Finder, object] = {
            "sam": self.sams, "detector": self.detections, "anomaly": self.anomaly,
        }  # fmt: skip
        return [name for name, model in given.items() if model is not None]

    def searched(self, data: Path, faults: Faults) -> list[LabelledImage]:
        """The candidates on each photo of train and val."""
        from pipeline.trust.searched import labelled_images, with_categories

        truth = labelled_images(data, ("train", "val"), faults)
        truth = with_categories(truth, self.segmenter.categories)
        found = {}
        if self.detections:
            found = {record.file_name: record for record in self.detections.truth.records}
        images = []
        for record in track(truth.records, "search labelled photos"):
            try:
                image = read_image(record.path)
            except DataError as error:
                faults.add(error)
                continue
            detections = None
            if self.detections and record.file_name in found:
                detections = self.detections.find(found[record.file_name], image)[0]
            group = record.group or record.file_name
            rows = self._candidates(image, group, detections)
            images.append(_labelled(group, truth.on(record), rows))
        return images

    def _candidates(
        self, image: Image, group: str, detections: Detections | None
    ) -> list[Candidate]:
        from pipeline.proposals.candidates import Evidence, candidates
        from pipeline.proposals.labeller import relative_heat

        none = Detections.none() if self.detections else None
        evidence = Evidence(
            self.segmenter.defect_map(image, group),
            none if detections is None else detections,
            relative_heat(self.anomaly, image) if self.anomaly else None,
        )
        sam = self.sams.of(group) if self.sams else None
        return candidates(image, evidence, self.segmenter.region_options, sam)


def _labelled(group: str, truth: Detections, rows: Sequence[Candidate]) -> LabelledImage:
    from pipeline.proposals.fit import LabelledImage

    return LabelledImage(group, truth, tuple(rows))


def _fit(images: Sequence[LabelledImage], models: _Models) -> LabellerFit | None:
    from pipeline.proposals.fit import MIN_CANDIDATES, MIN_PHOTOS, fit_labeller

    fit = fit_labeller(images, models.segmenter.categories, models.finders)
    if fit is None:
        say(
            f"{sum(len(image.candidates) for image in images)} candidates on "
            f"{sum(bool(image.candidates) for image in images)} photos are too few to learn from, "
            f"{MIN_CANDIDATES} on {MIN_PHOTOS} are needed: labels are the segmenter's own, without "
            "an expected IoU"
        )
    return fit


def _copy(folder: Path, known: LabellerKnowledge, sources: Mapping[str, Path | None]) -> None:
    """Copy the models that are used, and write the card."""
    from pipeline.proposals.card import SEGMENTER, write_labeller

    left_out = shutil.ignore_patterns("folds", "*.png", "*.sqlite*", "heatmaps", "overlays")
    for name, source in sources.items():
        if source is not None and name in (SEGMENTER, *known.finders):
            shutil.copytree(source, folder / name, ignore=left_out)
    write_labeller(folder, known)


def _written(
    folder: Path, images: Sequence[LabelledImage], fit: LabellerFit | None, segmenter: float
) -> CombineResult:
    """Write what was tested, and return the result. segmenter: its confidence."""
    result = CombineResult(
        output=folder,
        photos=len(images),
        candidates=sum(len(image.candidates) for image in images),
        confidence=segmenter,
    )
    if fit is None:
        return result
    groups = [image.group for image in fit.images for _ in image.candidates]
    kept = np.flatnonzero(fit.tested_probability >= fit.confidence)
    own = [groups[row] for row in kept]
    point = operating_point(fit.outcomes, fit.confidence).reached
    expected, true = fit.tested_iou[kept], fit.true_iou[kept]
    if len(kept):
        panels = {"labels": {"found masks": (expected, true)}}
        reliability_panels(folder / "reliability_found.png", panels)
    pairs = zip(own, true.tolist(), expected.tolist(), strict=True)
    rows = [
        {"group": group, "iou": round(iou, 4), "expected_iou": round(guess, 4)}
        for group, iou, guess in pairs
    ]
    write_json(folder / TESTED_MASKS, rows)
    if not fit.finders:
        say("no finder gains beside the segmenter: the labels are its own")
    return replace(
        result,
        finders=fit.finders,
        gains=dict(fit.gains),
        refinement=fit.refinement,
        confidence=fit.confidence,
        labels=fit.quality,
        expected_iou=found_score(expected, true, own) if len(kept) else None,
        recall=point.recall,
        false_alarms=point.false_alarms,
    )
