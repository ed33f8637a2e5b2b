"""The settings of the detector and of SAM."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.labels import ImagesConfig
from pipeline.config.values import (
    Augmentation,
    Backend,
    Config,
    Folds,
    Gigabytes,
    Positive,
    Probability,
    Seed,
    Share,
    Whole,
    default_augmentations,
)

_Scale = Annotated[float, Field(ge=1)]
_COST = r"^\d{1,9}(\.\d{1,9})?:\d{1,9}(\.\d{1,9})?$"


class FinetuneConfig(Config):
    """How YOLO-World is fine-tuned."""

    weights: str = Field("yolov8s-world", description="Name of the weights to start from.")
    text: Literal["auto", "clip", "fixed"] = Field(
        "auto", description="Text embeddings of the category names; auto is CLIP's if installed."
    )
    epochs: Positive = Field(60, description="Largest number of passes over the training images.")
    image_side: Annotated[int, Field(ge=64, multiple_of=32)] = Field(
        640, description="Side to which images are resized, in pixels."
    )
    batch: Positive = Field(8, description="Images in a batch.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(5e-4, description="Learning rate.")
    freeze: Whole = Field(0, description="Layers, from the input, that do not learn.")
    patience: Positive = Field(20, description="Stop after this many epochs without a gain.")
    amp: bool = Field(True, description="Train in bfloat16 where the device is faster in it.")
    workers: Whole = Field(4, description="Processes that read images.")
    merge_classes: bool = Field(False, description='Train one category "defect" for all.')
    fold: Whole | None = Field(None, description="Fold of convert-masks --folds to hold out.")
    folds: Folds = Field(
        0,
        description="Folds of a cross-validation that finds defects on every image of train and "
        "val without learning from it, for calibrate; 0: none.",
    )
    mosaic: Probability = Field(0.5, description="Probability of a mosaic of four images.")
    close_mosaic: Whole = Field(10, description="Last epochs without mosaics.")
    degrees: Annotated[float, Field(ge=0, le=180)] = Field(
        3.0, description="Largest rotation of images, in degrees."
    )
    translate: Probability = Field(0.1, description="Largest shift, as a share of the side.")
    scale: Probability = Field(0.2, description="Largest change of scale, as a share.")
    flip_vertical: Probability = Field(0.5, description="Probability of an upside-down image.")
    flip_horizontal: Probability = Field(0.5, description="Probability of a mirrored image.")
    augmentations: tuple[Augmentation, ...] = Field(
        default_factory=default_augmentations, description="Albumentations transforms."
    )
    seed: Seed = Field(0, description="Seed of the random numbers.")


class ViewsConfig(Config):
    """How SAM views objects, where it differs from the model's own card.

    A view is the whole image, or a crop around the box. See `models.sam.views.ViewOptions`.
    """

    has_own_options: ClassVar[bool] = True
    side: Annotated[int, Field(ge=64, multiple_of=64)] | None = Field(
        None, description="Side to which crops are resized, in pixels."
    )
    crop_below: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Crop around boxes whose longer side is below this share of the image's."
    )
    crop_scales: Annotated[tuple[_Scale, ...], Field(min_length=1)] | None = Field(
        None, description="Sides of the crops, as multiples of the box's longer side."
    )
    tta: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None, description="Test-time augmentation: how many of a crop's 8 rotations and mirrors."
    )
    pad: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Widen boxes by this share of their sides."
    )
    margin: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Clip masks to the box widened by this share of its sides."
    )
    rounds: Positive | None = Field(
        None, description="Prompts in a row: from the second on, SAM gets its own mask as a prompt."
    )
    point: bool | None = Field(
        None, description="From the second round, also prompt with the mask's innermost point."
    )
    multimask: bool | None = Field(None, description="Take the best rated of SAM's three masks.")
    box_jitters: Annotated[int, Field(ge=0, le=4)] | None = Field(
        None, description="Moved boxes beside each box, to measure how stable its mask is."
    )


class SegmentConfig(ImagesConfig):
    """How boxes become masks."""

    sam: str = Field("mobile_sam", description="Name of SAM weights, or a folder of finetune-sam.")
    backend: Backend = Field("auto", description="What runs SAM's image encoder.")
    cache_gb: Gigabytes = Field(
        20.0, description="Largest size of the cache on disk; 0 turns it off."
    )
    views: ViewsConfig = Field(ViewsConfig(), description="How SAM views objects.")
    heatmaps: Path | None = Field(
        None,
        description="Folder of heat maps, <image>.npy or .png; their peak in a box is a prompt.",
    )
    tighten: bool = Field(False, description="Replace boxes by the bounding boxes of their masks.")
    confidence: Probability | None = Field(
        None, description="Leave out detections of a lower score; by default the detector's own."
    )
    recall: Probability | None = Field(
        None, description="In place of a confidence: the share of the defects to find."
    )
    false_alarms: Annotated[float, Field(ge=0)] | None = Field(
        None, description="In place of a confidence: the most false labels an image, on average."
    )
    cost: Annotated[str, Field(pattern=_COST)] | None = Field(
        None,
        description="In place of a confidence: the cost of a missed defect and of a false label, "
        "as MISS:FALSE.",
    )
    max_boxes: Positive = Field(
        100, description="Most detections of an image; the highest scores stay."
    )
    split: str | None = Field(None, description="Only the images of this split: train, val, test.")
    overlays: bool = Field(True, description="Draw each image with its masks.")
    review: Whole = Field(60, description="Masks on the review page, the least trusted first.")

    @model_validator(mode="after")
    def _has_one_limit(self) -> Self:
        names = ("confidence", "recall", "false_alarms", "cost")
        given = [f"--{n.replace('_', '-')}" for n in names if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are not given together")
        return self

    @property
    def costs(self) -> tuple[float, float] | None:
        """Of a missed defect, and of a false label."""
        if self.cost is None:
            return None
        miss, false = (float(number) for number in self.cost.split(":"))
        return miss, false


class CalibrateConfig(ImagesConfig):
    """How the masks of out-of-fold detections are calibrated."""

    sam: str = Field("mobile_sam", description="Name of SAM weights, or a folder of finetune-sam.")
    backend: Backend = Field("auto", description="What runs SAM's image encoder.")
    cache_gb: Gigabytes = Field(
        20.0, description="Largest size of the cache on disk; 0 turns it off."
    )
    lowest: Probability = Field(
        0.05,
        description="Lowest score of a detection that SAM segments; the detector's own confidence "
        "where that is lower.",
    )
    max_boxes: Positive = Field(
        20, description="Most detections of an image; the highest scores stay."
    )


class FinetuneSamConfig(Config):
    """How SAM is tuned on the masks of train and val, and tested on those of test."""

    sam: str = Field(
        "mobile_sam", description="SAM to start from: a name, or a folder of finetune-sam."
    )
    backend: Backend = Field("auto", description="What runs SAM's image encoder.")
    cache_gb: Gigabytes = Field(
        20.0, description="Largest size of the cache on disk; 0 turns it off."
    )
    tune: Literal["decoder", "prompts", "encoder"] = Field(
        "decoder",
        description="What learns: the mask decoder, with the prompt encoder, or with LoRA in the "
        "image encoder.",
    )
    rank: Positive = Field(4, description="Rank of LoRA.")
    masks: Positive | None = Field(
        None, description="Learn from this many masks, drawn by `seed`; by default from all."
    )
    crops_per_object: Positive = Field(16, description="Training crops of each object.")
    crop_scales: tuple[_Scale, _Scale] = Field(
        (1.4, 1.9), description="Smallest and largest side of a training crop, in box sides."
    )
    steps: Positive | None = Field(
        None, description="Training steps; by default 200, or 2 for each mask if that is more."
    )
    batch: Positive = Field(4, description="Objects in a batch.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(2e-4, description="Learning rate.")
    jitter: Share = Field(
        0.04, description="Standard deviation of the training boxes' error, in box sides."
    )
    folds: Folds = Field(
        3, description="Folds of the cross-validation that calibrates the expected IoU; 0: none."
    )
    views: ViewsConfig = Field(ViewsConfig(), description="How the tuned SAM views objects.")
    multimask: bool = Field(False, description="Also train SAM's three masks and their ratings.")
    rounds: Positive = Field(1, description="Prompts in a row that are trained.")
    patch_prior: bool = Field(
        True,
        description="Use a patch prior, from patches of defects and of background, where it "
        "improves out-of-fold masks.",
    )
    compare: bool = Field(True, description="Also test the published SAM and three baselines.")
    robustness: bool = Field(True, description="Also test with inaccurate boxes.")
    seed: Seed = Field(0, description="Seed of the random numbers.")


class PredictConfig(ImagesConfig):
    """How a trained model is run on images."""

    sam: str | None = Field(
        None, description="SAM that makes masks of the boxes: a name, or a folder of finetune-sam."
    )
