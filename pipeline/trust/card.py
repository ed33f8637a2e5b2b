"""What is known of the labels of one detector and one SAM, in a folder of `pipeline calibrate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter

from pipeline.errors import ConfigError
from pipeline.io.read import checked, read_json
from pipeline.io.write import write_json
from pipeline.metrics.operating_points import ImageOutcome
from pipeline.models.artifact import CARD, model_kind
from pipeline.models.cards import (
    DETECTOR_CARD,
    CalibrationCard,
    DetectorCard,
    KindCard,
    Sha256,
    read_model_card,
)
from pipeline.models.sam.calibration import Calibration
from pipeline.trust.found_masks import detection_figures
from pipeline.trust.missed import fit_missed, score_figures
from pipeline.types import EXPECTED_IOU, PROBABILITY, Detections, Masks

KIND = "trust"
_Score = Annotated[float, Field(ge=0, le=1)]


class OutcomeCard(BaseModel):
    """See `operating_points.ImageOutcome`."""

    group: str
    found_at: tuple[_Score, ...]
    false_at: tuple[_Score, ...]
    scores: tuple[_Score, ...]


class TrustCard(KindCard):
    """See `Trust`."""

    kind: Literal["trust"]
    detector_sha256: Sha256
    sam_sha256: Sha256
    confidence: _Score
    probability: CalibrationCard | None
    expected_iou: CalibrationCard | None
    images: Annotated[list[OutcomeCard], Field(max_length=1_000_000)]


_CARD = TypeAdapter(TrustCard)


@dataclass(frozen=True)
class Trust:
    """Calibrations on boxes that a detector found.

    detector, sam: sha256 of the models that it belongs to. confidence: the detector's own.
    probability: that a label is a defect. expected_iou: of its mask, 0 for a false alarm. Both are
    None where masks were too few. outcomes: of the images that neither model learned from.
    """

    detector: str
    sam: str
    confidence: float
    probability: Calibration | None
    expected_iou: Calibration | None
    outcomes: tuple[ImageOutcome, ...]

    def add_quality(self, masks: Masks, found: Detections, categories: Sequence[str]) -> Masks:
        """The masks of what is found on an image, with the columns `expected_iou` and
        `probability`, 0 for those that failed; as they are without a calibration."""
        if self.probability is None or self.expected_iou is None:
            return masks
        table = {**masks.quality, **detection_figures(found)}
        columns = {EXPECTED_IOU: self.expected_iou, PROBABILITY: self.probability}
        added = {
            name: np.where(masks.failed, 0, fit.expected_iou(table, categories)).astype(np.float32)
            for name, fit in columns.items()
            if len(masks.masks) and set(fit.names) <= table.keys()
        }
        return replace(masks, quality={**masks.quality, **added})

    def missed(self, confidence: float) -> Calibration | None:
        """The fit of `missed_probability` at a confidence."""
        return fit_missed(self.outcomes, confidence)


def missed_probability(fit: Calibration, scores: Sequence[float], confidence: float) -> float:
    """The probability that the labels kept at a confidence miss a defect of the image. scores: of
    all its detections."""
    return float(fit.expected_iou(score_figures([scores], confidence), [""])[0])


def write_trust(folder: Path, trust: Trust) -> None:
    """Write the card that `read_trust` reads."""
    fits = {"probability": trust.probability, "expected_iou": trust.expected_iou}
    card = {
        "kind": KIND,
        "detector_sha256": trust.detector,
        "sam_sha256": trust.sam,
        "confidence": round(trust.confidence, 4),
        **{name: fit.to_json() if fit else None for name, fit in fits.items()},
        "images": [asdict(outcome) for outcome in trust.outcomes],
    }
    write_json(folder / CARD, card)


def read_trust(folder: Path, detector: str, sam: str) -> Trust:
    """What a folder of calibrate says of this pair. detector, sam: their sha256. Raises ConfigError
    for a folder of something else, and for another pair, DataError for a damaged card."""
    if (kind := model_kind(folder)) != KIND:
        other = f"{folder / CARD}: is of kind {kind}, no trust" if kind else f"{folder}: holds none"
        raise ConfigError(f"{other}; give --trust the folder of pipeline calibrate")
    card = checked(_CARD, read_json(folder / CARD), folder / CARD)
    for name, own, given in (
        ("detector", card.detector_sha256, detector),
        ("SAM", card.sam_sha256, sam),
    ):
        if own != given:
            remedy = "calibrate this pair with pipeline calibrate"
            raise ConfigError(f"{folder}: belongs to another {name} than is given; {remedy}")
    probability, expected = (
        Calibration.from_card(fit) if fit else None for fit in (card.probability, card.expected_iou)
    )
    outcomes = tuple(
        ImageOutcome(one.group, one.found_at, one.false_at, one.scores) for one in card.images
    )
    return Trust(detector, sam, card.confidence, probability, expected, outcomes)


def detector_sha256(folder: Path) -> str:
    """The sha256 of the weights of a detector or an anomaly model. Raises ConfigError for a folder
    of another model."""
    kind = model_kind(folder)
    if kind == "yolo-world":
        return _detector_card(folder).sha256
    if kind in ("patchcore", "autoencoder", "vae"):
        return read_model_card(folder / CARD).sha256
    raise ConfigError(f"{folder}: holds no detector; give a folder of finetune-yolo or anomaly")


def detector_confidence(folder: Path) -> float:
    """The confidence that a finetune-yolo folder chose."""
    return _detector_card(folder).confidence


def _detector_card(folder: Path) -> DetectorCard:
    return checked(DETECTOR_CARD, read_json(folder / CARD), folder / CARD)


def sam_sha256(weights: Mapping[str, str]) -> str:
    """The sha256 of the weights of a `CalibratedSegmenter` that tell it from others: the tuned
    ones, or else the published ones."""
    return weights.get("tuned") or next(iter(weights.values()))
