"""The card of a labeller: what its finders are, and what was learned of their candidates."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter

from pipeline.errors import DataError, WeightsError
from pipeline.io.read import checked, read_json
from pipeline.io.write import write_json
from pipeline.metrics.operating_points import ImageOutcome
from pipeline.models.artifact import CARD, model_kind
from pipeline.models.cards import CalibrationCard, KindCard, Names, Sha256
from pipeline.models.sam.calibration import Calibration
from pipeline.proposals.choices import Finder, Refinement
from pipeline.proposals.fit import LabellerFit
from pipeline.trust.card import OutcomeCard, detector_sha256

KIND = "labeller"
SEGMENTER = "segmenter"  # folders of the models in that of the labeller, with those of the finders
_Share = Annotated[float, Field(ge=0, le=1)]


class _RefinementCard(BaseModel):
    overall: bool
    by_category: dict[str, bool]
    gain: float
    gains: dict[str, float]


class LabellerCard(KindCard):
    """See `Labeller`. finders: those beside the segmenter, each a folder beside the card. sam: the
    name of a published SAM; null for one in its folder."""

    kind: Literal["labeller"]
    categories: Names
    finders: list[Finder]
    sam: str | None = None
    sha256: dict[str, Sha256]
    refinement: _RefinementCard
    probability: CalibrationCard
    expected_iou: CalibrationCard
    confidence: _Share
    images: Annotated[list[OutcomeCard], Field(max_length=1_000_000)]


_CARD = TypeAdapter(LabellerCard)


@dataclass(frozen=True)
class LabellerKnowledge:
    """All that a labeller knows beside its models; see `LabellerFit`."""

    categories: tuple[str, ...]
    finders: tuple[Finder, ...]
    sam: str | None
    refinement: Refinement
    probability: Calibration
    expected_iou: Calibration
    confidence: float
    outcomes: tuple[ImageOutcome, ...]


def write_labeller(
    folder: Path, fit: LabellerFit, categories: tuple[str, ...], sam: str | None
) -> None:
    """Write the card beside the folders of the models. sam: of a published SAM, which has none."""
    folders = [SEGMENTER, *(f for f in fit.finders if not (f == "sam" and sam))]
    write_json(
        folder / CARD,
        {
            "kind": KIND,
            "categories": list(categories),
            "finders": list(fit.finders),
            "sam": sam if "sam" in fit.finders else None,
            "sha256": {name: model_sha256(folder / name) for name in folders},
            "refinement": asdict(fit.refinement),
            "probability": fit.probability.to_json(),
            "expected_iou": fit.expected_iou.to_json(),
            "confidence": fit.confidence,
            "images": [asdict(outcome) for outcome in fit.outcomes],
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
        Calibration.from_card(card.probability),
        Calibration.from_card(card.expected_iou),
        card.confidence,
        tuple(
            ImageOutcome(one.group, one.found_at, one.false_at, one.scores) for one in card.images
        ),
    )


def model_sha256(folder: Path) -> str:
    """The sha256 that the card of a model's folder names: of a segmenter, a SAM, or a detector."""
    from pipeline.models.cards import SAM_CARD, read_model_card

    if (kind := model_kind(folder)) == "sam":
        return checked(SAM_CARD, read_json(folder / CARD), folder / CARD).delta_sha256
    return read_model_card(folder / CARD).sha256 if kind == SEGMENTER else detector_sha256(folder)
