"""The settings of the segmentation network that finds defects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.labels import ImagesConfig
from pipeline.config.values import Backend, Config, Folds, Gigabytes, Positive, Seed


class FinetuneSegmenterConfig(Config):
    """A network that learns from the masks which pixels are a defect."""

    encoder: Literal["mobilenet_v2", "resnet18", "resnet50"] = Field(
        "mobilenet_v2", description="Encoder, with ImageNet weights."
    )
    pretrained: Literal["auto", "yes", "no"] = Field(
        "auto", description="ImageNet weights; auto uses them if they can be downloaded."
    )
    start: Path | None = Field(
        None,
        description="Folder of finetune-segmenter to go on from, with its encoder, scale and "
        "folds: a photo that a network did not learn from stays held out from it.",
    )
    scale: Annotated[float, Field(gt=0, le=4)] | None = Field(
        None,
        description="By how much photos are resized for the network; by default from the widths of "
        "the defects.",
    )
    folds: Folds = Field(
        3,
        description="Networks, each trained without one fold of the photos, which then choose the "
        "threshold; 0: one network that learns from all.",
    )
    decoder_steps: Positive | None = Field(
        None,
        description="First training steps of each network, without its encoder; by default 200 to "
        "400, by the masks, and none with `start`.",
    )
    steps: Positive | None = Field(
        None,
        description="Training steps of each network with its encoder; by default 150 to 600, by "
        "the masks, and 50 to 200 with `start`.",
    )
    batch: Positive = Field(6, description="Crops in a batch.")
    masks: Positive | None = Field(
        None, description="Learn from this many masks, drawn by `seed`; by default from all."
    )
    seed: Seed = Field(0, description="Seed of the random numbers.")


class CombineConfig(Config):
    """How the finders of a product become one labeller."""

    sam: str = Field(
        "mobile_sam",
        description="SAM whose masks are tried: a name, a folder of finetune-sam, or an empty text "
        "for none.",
    )
    backend: Backend = Field("auto", description="What runs SAM's image encoder.")
    cache_gb: Gigabytes = Field(
        20.0, description="Largest size of the cache on disk; 0 turns it off."
    )


class LearnConfig(ImagesConfig):
    """How the models of a run learn from a review. All else is as the run has it."""

    steps: Positive | None = Field(
        None,
        description="Training steps of each network of the segmenter; by default 50 to 200, by the "
        "masks.",
    )
    sam: bool = Field(True, description="Tune the run's own SAM too, from its last state.")
    sam_steps: Positive | None = Field(
        None, description="Training steps of SAM; by default at least 200, by the masks."
    )
    detector: bool = Field(
        False,
        description="Train the detector again too, from its published weights: it takes longest.",
    )


class NextConfig(Config):
    """Which images to label next."""

    count: Positive = Field(20, description="How many images are chosen.")
