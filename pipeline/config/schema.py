"""Every configuration, with its defaults, and the configuration of a whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.config.detection import (
    CalibrateConfig,
    FinetuneConfig,
    FinetuneSamConfig,
    PredictConfig,
    SegmentConfig,
    ViewsConfig,
)
from pipeline.config.image_level import AnomalyConfig, ClassifyConfig, Experiment, StudyConfig
from pipeline.config.labels import (
    AuditConfig,
    ConvertConfig,
    EvaluateConfig,
    ExportConfig,
    ImagesConfig,
    ReviewConfig,
    SynthesizeConfig,
)
from pipeline.config.segmentation import (
    CombineConfig,
    FinetuneSegmenterConfig,
    LearnConfig,
    NextConfig,
)


class RunConfig(ImagesConfig):
    """A whole job, from photos to report.

    The detector and SAM learn all products. Statistics, the classifier and the models of good
    images use the first one.
    """

    output: Path = Field(Path("runs/default"), description="Folder of the run.")
    products: tuple[Path, ...] = Field(
        (), description="MVTec product folders; without any, zippers are drawn."
    )
    images: Path | None = Field(
        None, description="In place of products: the folder of images, whose masks are in `masks`."
    )
    masks: Path | None = Field(
        None, description="Folder of masks of the same names, or of a common suffix or sub-folders."
    )
    keep_going: bool = Field(False, description="Skip bad files and list them at the end.")
    minutes: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Minutes that the run may take on this machine: every training takes its share "
        "of them, and the epochs and steps below say how they are shared.",
    )
    trainings_at_once: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Trainings that run side by side, each with its share of the threads; by "
        "default two on a CPU, and one on a GPU.",
    )
    synthesize: SynthesizeConfig = Field(SynthesizeConfig(), description="What is drawn.")
    convert: ConvertConfig = Field(ConvertConfig(), description="How masks are converted.")
    finetune: FinetuneConfig = Field(FinetuneConfig(), description="How the detector learns.")
    tune_sam: bool = Field(True, description="Tune the SAM that `segment` names, and use it.")
    finetune_sam: FinetuneSamConfig = Field(
        FinetuneSamConfig(), description="How SAM is tuned; its `sam` is that of `segment`."
    )
    calibrate: CalibrateConfig = Field(
        CalibrateConfig(),
        description="How found masks are calibrated, where `finetune` has folds; its `sam` is that "
        "of the run.",
    )
    finetune_segmenter: FinetuneSegmenterConfig | None = Field(
        FinetuneSegmenterConfig(),
        description="How the network learns that finds defects pixel by pixel; null: none, and no "
        "labeller.",
    )
    combine: CombineConfig = Field(
        CombineConfig(), description="How finders are combined; its `sam` is that of the run."
    )
    segment: SegmentConfig = Field(SegmentConfig(), description="How boxes become masks.")
    classify: ClassifyConfig | None = Field(
        ClassifyConfig(), description="The image-level baseline; null: none."
    )
    anomalies: tuple[AnomalyConfig, ...] = Field(
        (AnomalyConfig(),), description="Models that learn from good images alone."
    )
    evaluate: EvaluateConfig = Field(
        EvaluateConfig(), description="How predictions are compared with the truth."
    )
    device: str = Field("auto", description="Device: auto, cpu, cuda, 0, or 0,1.")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.images is None) != (self.masks is None):
            raise ValueError("images and masks are given together")
        if self.images and self.products:
            raise ValueError("products and images are not given together")
        return self

    @model_validator(mode="after")
    def _has_folds_for_a_wish(self) -> Self:
        wishes = (self.segment.recall, self.segment.false_alarms, self.segment.cost)
        if any(wish is not None for wish in wishes) and self.finetune.folds < 2:
            raise ValueError("recall, false_alarms and cost of segment need finetune.folds: 2")
        return self


__all__ = [
    "AnomalyConfig",
    "AuditConfig",
    "CalibrateConfig",
    "ClassifyConfig",
    "CombineConfig",
    "ConvertConfig",
    "EvaluateConfig",
    "Experiment",
    "ExportConfig",
    "FinetuneConfig",
    "FinetuneSamConfig",
    "FinetuneSegmenterConfig",
    "ImagesConfig",
    "LearnConfig",
    "NextConfig",
    "PredictConfig",
    "ReviewConfig",
    "RunConfig",
    "SegmentConfig",
    "StudyConfig",
    "SynthesizeConfig",
    "ViewsConfig",
]
