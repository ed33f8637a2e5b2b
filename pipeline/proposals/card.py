"""The card of a labeller: what its finders are, and what was learned of their candidates."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, JsonValue, TypeAdapter, model_validator

from pipeline.errors import DataError, WeightsError
from pipeline.io.read import checked, read_json
from pipeline.io.write import write_json
from pipeline.metrics.operating_points import ImageOutcome
from pipeline.models.artifact import CARD, model_kind
from pipeline.models.cards import CalibrationCard, KindCard, Names, Sha256
from pipeline.models.sam.calibration import Calibration
from pipeline.proposals.choices import Finder, Refinement
from pipeline.proposals.fit import LabellerFit
from pipeline.proposals.naming import Naming
from pipeline.trust.card import OutcomeCard, detector_sha256

KIND = "labeller"
SEGMENTER = "segmenter"  # folders of the models in that of the labeller, with those of the finders
_Share = Annotated[float, Field(ge=0, le=1)]


class _RefinementCard(BaseModel):
    overall: bool
    by_category: dict[str, bool]
    gain: float
    gains: dict[str, float]


class _NamingCard(BaseModel):
    """See `naming.Naming`, for this many categories."""

    centre: Annotated[list[FiniteFloat], Field(max_length=2_003)]
    spread: list[Annotated[FiniteFloat, Field(gt=0)]]
    weights: list[list[FiniteFloat]]

    @model_validator(mode="after")
    def _fits(self) -> _NamingCard:
        figures = 2 * len(self.weights) + 3
        lengths = {len(self.centre), len(self.spread), *(len(row) - 1 for row in self.weights)}
        if lengths != {figures}:
            raise ValueError("figures and weights of the naming are not of one number")
        return self


class LabellerCard(KindCard):
    """See `Labeller`. finders: those beside the segmenter, each a folder beside the card. sam: the
    name of a published SAM; null for one in its folder."""

    kind: Literal["labeller"]
    categories: Names
    finders: list[Finder]
    sam: str | None = None
    sha256: dict[str, Sha256]
    refinement: _RefinementCard
    probability: CalibrationCard | None
    expected_iou: CalibrationCard | None
    name_probability: CalibrationCard | None
    confidence: _Share
    naming: _NamingCard | None = None
    images: Annotated[list[OutcomeCard], Field(max_length=1_000_000)]


_CARD = TypeAdapter(LabellerCard)


@dataclass(frozen=True)
class LabellerKnowledge:
    """All that a labeller knows beside its models; see `LabellerFit`. The calibrations are None
    where candidates were too few: labels are then the segmenter's own."""

    categories: tuple[str, ...]
    finders: tuple[Finder, ...]
    sam: str | None
    refinement: Refinement
    probability: Calibration | None
    expected_iou: Calibration | None
    name_probability: Calibration | None
    confidence: float
    outcomes: tuple[ImageOutcome, ...]
    naming: Naming | None = None


def knowledge(
    fit: LabellerFit | None, categories: tuple[str, ...], sam: str | None, confidence: float
) -> LabellerKnowledge:
    """What a fit found. sam: name of a published SAM, None for a tuned one. confidence: of the
    segmenter, for a fit that is None."""
    if fit is None:
        none = Refinement(False, {}, 0.0, {})
        return LabellerKnowledge(categories, (), None, none, None, None, None, confidence, ())
    return LabellerKnowledge(
        categories, fit.finders, sam if "sam" in fit.finders else None, fit.refinement,
        fit.probability, fit.expected_iou, fit.name_probability, fit.confidence, fit.outcomes,
        fit.naming,
    )  # fmt: skip


def write_labeller(folder: Path, known: LabellerKnowledge) -> None:
    """Write the card beside the folders of the models."""
    folders = [SEGMENTER, *(f for f in known.finders if not (f == "sam" and known.sam))]
    fits = {
        "probability": known.probability,
        "expected_iou": known.expected_iou,
        "name_probability": known.name_probability,
    }
    write_json(
        folder / CARD,
        {
            "kind": KIND,
            "categories": list(known.categories),
            "finders": list(known.finders),
            "sam": known.sam,
            "sha256": {name: model_sha256(folder / name) for name in folders},
            "refinement": asdict(known.refinement),
            **{name: fit.to_json() if fit else None for name, fit in fits.items()},
            "confidence": known.confidence,
            "naming": _naming_card(known.naming) if known.naming else None,
            "images": [asdict(outcome) for outcome in known.outcomes],
        },
    )


def read_labeller(folder: Path) -> LabellerKnowledge:
    """What a folder of combine says. Raises DataError for another folder, WeightsError for models
    that were changed."""
    path = folder / CARD
    if (kind := model_kind(folder)) != KIND:
        reason = f"is of kind {kind}, no labeller" if kind else "is missing"
        raise DataError(path, reason, "give the folder of pipeline combine")
    card = checked(_CARD, read_json(path), path)
    for name in (SEGMENTER, *(f for f in card.finders if not (f == "sam" and card.sam))):
        if card.sha256.get(name) != model_sha256(folder / name):
            raise WeightsError(f"{folder / name}: is not what {CARD} names; combine again")
    return LabellerKnowledge(
        tuple(card.categories),
        tuple(card.finders),
        card.sam,
        Refinement(**card.refinement.model_dump()),
        Calibration.from_card(card.probability) if card.probability else None,
        Calibration.from_card(card.expected_iou) if card.expected_iou else None,
        Calibration.from_card(card.name_probability) if card.name_probability else None,
        card.confidence,
        tuple(
            ImageOutcome(one.group, one.found_at, one.false_at, one.scores) for one in card.images
        ),
        _naming(card.naming, len(card.categories), path) if card.naming else None,
    )


def _naming_card(naming: Naming) -> dict[str, JsonValue]:
    return {name: np.round(values, 6).tolist() for name, values in vars(naming).items()}


def _naming(card: _NamingCard, categories: int, path: Path) -> Naming:
    if len(card.weights) != categories:
        raise WeightsError(f"{path}: names other categories than it has; combine again")
    return Naming(*(np.array(values) for values in (card.centre, card.spread, card.weights)))


def model_sha256(folder: Path) -> str:
    """The sha256 that the card of a model's folder names: of a segmenter, a SAM, or a detector."""
    from pipeline.models.cards import SAM_CARD, read_model_card

    if (kind := model_kind(folder)) == "sam":
        return checked(SAM_CARD, read_json(folder / CARD), folder / CARD).delta_sha256
    return read_model_card(folder / CARD).sha256 if kind == SEGMENTER else detector_sha256(folder)
