"""`pipeline calibrate`: how far labels that a detector found can be trusted.

The detections on each labelled photo are of a detector that did not learn from it, and so are the
masks of SAM. They are compared with the true masks, false alarms among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from pipeline.config.schema import CalibrateConfig
from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.converted_set import leak_mark
from pipeline.io.images import read_image
from pipeline.io.run_record import RunRecord, folder_of
from pipeline.io.work_log import LOG, WorkLog
from pipeline.io.write import write_json
from pipeline.metrics.found_masks import TESTED_MASKS, TestedMask
from pipeline.metrics.operating_points import (
    ImageOutcome,
    MeanInterval,
    candidates,
    operating_counts,
    operating_point,
)
from pipeline.models.artifact import model_kind
from pipeline.reports.trust import FoundScore, ProbabilityScore, found_score, probability_score
from pipeline.results import StageResult
from pipeline.runtime.progress import say, track
from pipeline.trust.card import (
    Trust,
    detector_confidence,
    detector_sha256,
    sam_sha256,
    write_trust,
)
from pipeline.trust.fit import (
    MIN_MASKS,
    MIN_PHOTOS,
    calibrate_found,
    cross_missed,
    mask_table,
    tested_rows,
)
from pipeline.trust.found_masks import FoundImage, measure
from pipeline.trust.searched import Searched, by_anomalies, out_of_fold
from pipeline.visualization.plots import reliability_panels, trade_off

if TYPE_CHECKING:
    from pipeline.models.sam.model import CalibratedSegmenter
    from pipeline.trust.fold_segmenters import FoldSegmenters

_DEFAULT = CalibrateConfig()
_FOUND_IMAGE = TypeAdapter(FoundImage)


@dataclass(frozen=True, kw_only=True)
class CalibrateResult(StageResult):
    """What the labels of a detector and a SAM are worth, on photos that neither learned from.

    masks: of found boxes. expected_iou: how that of `segment --trust` holds. from_true_boxes: how
    that of the SAM's own card holds, which was calibrated on true boxes. probability: of being a
    defect. missed: that the labels of an image miss a defect. The first two and these are None
    where masks are too few; each is measured by fits to other photos. recall, false_alarms: the
    share of defects found and the false labels an image at the detector's own confidence.
    split_leaks, faults: as in `finetune_yolo`.
    """

    output: Path
    sam: str
    images: int
    defects: int
    masks: int
    expected_iou: FoundScore | None = None
    from_true_boxes: FoundScore | None = None
    probability: ProbabilityScore | None = None
    missed: ProbabilityScore | None = None
    confidence: float
    recall: MeanInterval | None = None
    false_alarms: MeanInterval
    split_leaks: str | None = None
    faults: tuple[str, ...] = ()


def calibrate(
    data: Path,
    detector: Path,
    output: Path,
    config: CalibrateConfig = _DEFAULT,
    *,
    device: str = "auto",
    keep_going: bool = False,
    overwrite: bool = False,
) -> CalibrateResult:
    """Compare found masks with the true ones of train and val in a folder of convert-masks, and
    write what `segment --trust` needs.

    detector: folder of finetune-yolo with folds, or of anomaly. config.sam: a published SAM, or a
    folder of finetune-sam with folds. Too few masks get a notice and no calibration; the operating
    points are written anyway. The same call goes on after a stop. Raises ConfigError for models
    without folds, DataError for other data, WeightsError.
    """
    from pipeline.models.devices import torch_device
    from pipeline.trust.fold_segmenters import FoldSegmenters

    faults = Faults(keep_going)
    reads = [data / "annotations", data / "images", detector, folder_of(config.sam)]
    record = RunRecord("calibrate", config.model_dump(mode="json"), reads)
    searched, confidence = _searched(detector, data, device, faults)
    segmenters = FoldSegmenters(config.sam, torch_device(device), config.backend, config.cache_gb)
    for weights, sha256 in segmenters.tuned.weights.items():
        record.used_weights(weights, sha256)
    with record.resumable_folder(output, overwrite) as folder:
        if finished := record.finished(folder, CalibrateResult):
            return finished
        images = _measured(searched, segmenters, config, confidence, folder, faults)
        pair = detector_sha256(detector), sam_sha256(segmenters.tuned.weights)
        result = _written(folder, images, pair, confidence, segmenters.tuned)
        mark = leak_mark(data)
        result = replace(result, output=output, split_leaks=mark, faults=faults.lines)
        record.write(folder, result)
    return result


def _searched(detector: Path, data: Path, device: str, faults: Faults) -> tuple[Searched, float]:
    """The labelled images with what is found on each, and the detector's own confidence."""
    from pipeline.models.load import load_detector

    kind = model_kind(detector)
    if kind == "segmenter":
        remedy = "finetune-segmenter itself measures what it finds; give one of finetune-yolo"
        raise ConfigError(f"{detector}: is a segmenter, which learned from these photos; {remedy}")
    if kind == "yolo-world":
        searched, confidence = out_of_fold(detector, data, faults), detector_confidence(detector)
    else:
        searched, confidence = by_anomalies(load_detector(detector, device), data, faults), 0.0
    if not searched.truth.records:
        raise DataError(data, "holds no image to calibrate on", "give the folder of convert-masks")
    return searched, confidence


def _measured(
    searched: Searched,
    segmenters: FoldSegmenters,
    config: CalibrateConfig,
    confidence: float,
    folder: Path,
    faults: Faults,
) -> list[FoundImage]:
    """The masks on each image, by a SAM that did not learn from it, in the order of images. The
    work log keeps finished images."""
    truth = searched.truth
    groups = {record.id: record.group or record.file_name for record in truth.records}
    segmenters.note_strangers(set(groups.values()))
    by_fold = sorted(truth.records, key=lambda record: segmenters.fold_of(groups[record.id]))
    lowest = min(config.lowest, confidence)
    with WorkLog(folder / LOG, "images", _FOUND_IMAGE) as log:
        left = [record for record in by_fold if record.id not in log]
        for record in track(left, "segment what was found"):
            group = groups[record.id]
            try:
                image = read_image(record.path)
                found, heatmap = searched.find(record, image)
            except DataError as error:
                faults.add(error)
                continue
            segmenter = segmenters.of(group)
            log.add(
                record.id,
                measure(
                    image, found, truth.on(record), truth.categories, group, segmenter,
                    lowest, config.max_boxes, heatmap,
                ),
            )  # fmt: skip
        images = [log.get(record.id) for record in truth.records]
    return [image for image in images if image is not None]


def _written(
    folder: Path,
    images: Sequence[FoundImage],
    pair: tuple[str, str],
    confidence: float,
    sam: CalibratedSegmenter,
) -> CalibrateResult:
    """Fit, and write the card and the plots; returns the result."""
    outcomes, masks = tuple(image.outcome for image in images), mask_table(images)
    found = calibrate_found(masks)
    expected, probability = (found.expected_iou, found.probability) if found else (None, None)
    write_trust(folder, Trust(*pair, confidence, probability, expected, outcomes))
    _draw_trade_off(folder, outcomes)
    point = operating_point(outcomes, confidence).reached
    missed = cross_missed(outcomes, confidence)
    result = CalibrateResult(
        output=folder,
        sam=sam.name,
        images=len(images),
        defects=sum(len(outcome.found_at) for outcome in outcomes),
        masks=len(masks.iou),
        missed=probability_score(*missed) if missed else None,
        confidence=confidence,
        recall=point.recall,
        false_alarms=point.false_alarms,
    )
    if found is None:
        say(
            f"{len(masks.iou)} masks on {len(set(masks.groups))} photos are too few to calibrate: "
            f"at least {MIN_MASKS} on {MIN_PHOTOS} are needed; masks will carry no expected IoU"
        )
        return result
    rows = TypeAdapter(list[TestedMask]).dump_python(tested_rows(masks, found), mode="json")
    write_json(folder / TESTED_MASKS, rows)
    panels = {"calibrated on found boxes": {"found masks": (found.tested_iou, masks.iou)}}
    result = replace(
        result,
        expected_iou=found_score(found.tested_iou, masks.iou, masks.groups),
        probability=probability_score(found.tested_probability, masks.is_defect),
    )
    if sam.calibration and set(sam.calibration.names) <= masks.columns.keys():
        own = sam.calibration.expected_iou(masks.columns, masks.categories)
        panels = {"calibrated on true boxes": {"found masks": (own, masks.iou)}, **panels}
        result = replace(result, from_true_boxes=found_score(own, masks.iou, masks.groups))
    reliability_panels(folder / "reliability_found.png", panels)
    return result


def _draw_trade_off(folder: Path, outcomes: Sequence[ImageOutcome]) -> None:
    """The share of defects missed against the false labels an image, at every confidence."""
    points = [operating_counts(outcomes, limit) for limit in (1.0, *candidates(outcomes)[::-1])]
    false, missed = zip(*points, strict=True)
    across, up = "false labels an image", "share of defects missed"
    trade_off(folder / "operating_points.png", {"labels": (false, missed)}, across, up)
