"""Cards of trained models, checked before a model is built from them.

People send each other folders of models, so a card is foreign input. It may not name a file outside
its folder, an unknown network, or a size that would exhaust memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    model_validator,
)

from pipeline.errors import DataError
from pipeline.io.names import leaves_its_folder
from pipeline.io.read import checked, read_json, shown_value
from pipeline.models.sam.network import SAM_NAMES

Backbone = Literal["resnet18", "resnet50", "wide_resnet50_2", "mobilenet_v2"]
Name = Annotated[str, Field(min_length=1, max_length=1000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Side = Annotated[int, Field(ge=1, le=4096, strict=True)]
Count = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
Patches = Annotated[int, Field(ge=1, le=10**12, strict=True)]
Positive = Annotated[FiniteFloat, Field(gt=0)]
Names = Annotated[list[Name], Field(min_length=1, max_length=100_000)]
MOST_CATEGORIES = 1000  # of a segmentation model, which has a probability of each at each pixel


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class KindCard(_Card):
    """The key that every card.json has."""

    kind: Name


class ModelCard(KindCard):
    """Card of a model.safetensors, which has this sha256."""

    sha256: Sha256


class ClassifierCard(ModelCard):
    """Of a classifier."""

    backbone: Backbone
    unfreeze: Literal["all", "layer3", "layer4", "head"]
    categories: Names
    image_side: Side


class RetrievalCard(ClassifierCard):
    """Of a classifier with a memory."""

    text: Literal["clip_vit_b_32", "wordllama_256"]
    neighbours: Count
    memory_backbone: Backbone
    memory_weights_sha256: Sha256


class FeaturesCard(_Card):
    """The network that computed patches; `weights_sha256` is "" for random weights."""

    features: Name
    weights_sha256: Sha256 | Literal[""]
    image_side: Side

    @model_validator(mode="after")
    def _is_known(self) -> FeaturesCard:
        if self.features not in (*Backbone.__args__, *SAM_NAMES):  # type: ignore[attr-defined]
            raise ValueError(f"no backbone or SAM is called {shown_value(self.features)}")
        return self


class PatchCoreCard(ModelCard, FeaturesCard):
    """Of a memory bank of good patches; version 0.7 called the ratio `share`. coreset_ratio: None
    if it follows from the set. patches_seen and patches_drawn: None before version 0.9."""

    coreset_ratio: Annotated[
        FiniteFloat | None, Field(validation_alias=AliasChoices("coreset_ratio", "share"))
    ]
    neighbours: Count
    seed: int
    patches_seen: Patches | None = None
    patches_drawn: Patches | None = None


class AutoencoderCard(ModelCard):
    """Of an autoencoder, variational or not."""

    error: Literal["ssim", "l2"]
    side: Side
    latent: Count
    steps: int
    batch: int
    learning_rate: FiniteFloat
    divergence: FiniteFloat
    seed: int


class SegmenterCard(ModelCard):
    """Of a segmentation model; see `segmentation.model`. unseen: for each network, the groups of
    photos that it did not learn from."""

    kind: Literal["segmenter"]
    encoder: Literal["mobilenet_v2", "resnet18", "resnet50"]
    categories: Annotated[list[Name], Field(min_length=1, max_length=MOST_CATEGORIES)]
    scale: Annotated[float, Field(gt=0, le=4)]
    threshold: Annotated[float, Field(gt=0, lt=1)]
    bridge_gap: Annotated[int, Field(ge=0, le=1000)]
    min_area: Annotated[int, Field(ge=0)]
    best_outline: bool = False
    confidence: Annotated[float, Field(ge=0, le=1)]
    unseen: Annotated[list[list[Name]], Field(min_length=1, max_length=100)]


class ThresholdsCard(_Card):
    """Thresholds of an anomaly model; see `thresholds.Thresholds`."""

    image: FiniteFloat
    pixel_high: Annotated[float, Field(gt=0, lt=1e38)]  # maps are in single precision
    pixel_low: FiniteFloat
    pixel_median: FiniteFloat


class OldThresholdsCard(_Card):
    """The same with the keys of version 0.7."""

    score: FiniteFloat
    seed: Annotated[float, Field(gt=0, lt=1e38)]
    edge: FiniteFloat
    usual: FiniteFloat


class DetectorCard(_Card):
    """Card of a finetune-yolo folder; version 0.7 named no kind.

    checkpoint: path in the folder. image_side: of the network's input, in pixels. confidence: the
    score below which detections are left out.
    """

    kind: Literal["yolo-world"] = "yolo-world"
    checkpoint: Name
    sha256: Sha256
    image_side: Annotated[int, Field(ge=32, le=8192)]
    confidence: Annotated[float, Field(ge=0, le=1)]


class ViewsCard(_Card):
    """How a SAM views objects; see `views.ViewOptions`."""

    side: Side | None = None
    crop_below: FiniteFloat = 0.0
    crop_scales: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=64)] = (2.4,)
    tta: Annotated[int, Field(ge=1, le=8)] = 1
    pad: FiniteFloat = 0.0
    margin: FiniteFloat | None = None
    rounds: Annotated[int, Field(ge=1, le=100)] = 1
    point: bool = False
    multimask: bool = False
    box_jitters: Annotated[int, Field(ge=0, le=4)] = 0


class CalibrationCard(_Card):
    """See `calibration.Calibration`."""

    names: list[Name]
    centre: list[FiniteFloat]
    spread: list[Positive]
    categories: list[str]
    weights: list[FiniteFloat]
    masks: int

    @model_validator(mode="after")
    def _fits(self) -> CalibrationCard:
        figures = len(self.names)
        expected = figures, figures, 1 + figures + len(self.categories)
        if (len(self.centre), len(self.spread), len(self.weights)) != expected:
            raise ValueError("figures, centres, spreads and weights are not of one number")
        return self


class PatchPriorCard(FeaturesCard):
    """Of patches inside and outside of training masks."""

    features: Backbone
    weights_sha256: Sha256
    weight: FiniteFloat
    sha256: Sha256


class _Base(_Card):
    name: Name
    sha256: Sha256


class SamFoldCard(_Card):
    """Of a SAM that did not learn from the photos of some groups; see `sam.folds`."""

    delta_sha256: Sha256
    groups: Names
    patch_prior: PatchPriorCard | None = None


class SamCard(_Card):
    """Of a SAM that finetune-sam tuned; versions before 0.9 kept no folds."""

    kind: Literal["sam"]
    base: _Base
    delta_sha256: Sha256
    views: ViewsCard
    calibration: CalibrationCard | None = None
    patch_prior: PatchPriorCard | None = None
    folds: Annotated[list[SamFoldCard], Field(max_length=1000)] = []


_KIND_CARD = TypeAdapter(KindCard)
_MODEL_CARD = TypeAdapter(ModelCard)
_MODEL_CARDS: dict[str, type[ModelCard]] = {
    "classifier": ClassifierCard,
    "rac": RetrievalCard,
    "patchcore": PatchCoreCard,
    "autoencoder": AutoencoderCard,
    "vae": AutoencoderCard,
    "segmenter": SegmenterCard,
}
DETECTOR_CARD, SAM_CARD, THRESHOLDS_CARD, OLD_THRESHOLDS_CARD = (
    TypeAdapter(DetectorCard),
    TypeAdapter(SamCard),
    TypeAdapter(ThresholdsCard),
    TypeAdapter(OldThresholdsCard),
)

KINDS = (*_MODEL_CARDS, "yolo-world", "sam", "trust", "labeller")  # every `kind` of a card.json


def read_kind(path: Path) -> str:
    """The `kind` in a card.json. Raises DataError for another file, and for an unknown kind."""
    kind = checked(_KIND_CARD, read_json(path), path).kind
    if kind not in KINDS:
        reason = f"kind is {shown_value(kind)}, not one of {', '.join(KINDS)}"
        raise DataError(path, reason, "give the folder of a trained model")
    return kind


def read_model_card(path: Path) -> ModelCard:
    """A card.json beside a model.safetensors, as the card of its kind. Raises DataError for any
    other file."""
    kind = read_kind(path)
    if kind not in _MODEL_CARDS:
        reason = f"kind is {kind}, not one of {', '.join(_MODEL_CARDS)}"
        raise DataError(path, reason, "give a folder of classify or anomaly")
    raw = read_json(path)
    checked(_MODEL_CARD, raw, path)
    return checked(TypeAdapter(_MODEL_CARDS[kind]), raw, path)


def named_file(folder: Path, name: str, card: str) -> Path:
    """The file that a card names. Raises DataError for a file outside the card's folder, also by a
    link."""
    path = folder / name
    if leaves_its_folder(name) or not path.resolve().is_relative_to(folder.resolve()):
        reason = f"names a file outside of its folder, {shown_value(name)}"
        raise DataError(folder / card, reason, "give the folder as it was written")
    return path
