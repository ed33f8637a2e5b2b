"""From a few defect masks to a detector, masks and COCO labels for all the rest.

Every command of the command line is a function here, with the same name and settings:

    import pipeline

    pipeline.convert_masks([Path("zipper")], Path("labels"))
    sam = pipeline.load_sam("mobile_sam")
    masks = sam.segment(pipeline.read_image("photo.png"), [[120, 80, 260, 190]])

A path may be an address too, such as `s3://bucket/photos`. Names are imported when they are first
used, so that `import pipeline` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.runtime.threads import choose_waiting, obey_limit
from pipeline.version import __version__

choose_waiting()  # before anything imports torch
obey_limit()

if TYPE_CHECKING:
    from pipeline.api import (
        load_detector,
        load_model,
        load_sam,
        mask_instances,
        read_coco,
        read_image,
        read_mask,
    )
    from pipeline.config.schema import (
        AnomalyConfig,
        AuditConfig,
        CalibrateConfig,
        ClassifyConfig,
        CombineConfig,
        ConvertConfig,
        EvaluateConfig,
        ExportConfig,
        FinetuneConfig,
        FinetuneSamConfig,
        FinetuneSegmenterConfig,
        LearnConfig,
        NextConfig,
        PredictConfig,
        ReviewConfig,
        RunConfig,
        SegmentConfig,
        StudyConfig,
        SynthesizeConfig,
    )
    from pipeline.errors import ConfigError, DataError, PipelineError, WeightsError
    from pipeline.formats.coco import write_coco
    from pipeline.io.images import write_png
    from pipeline.stages.anomaly import anomaly
    from pipeline.stages.audit import audit
    from pipeline.stages.calibrate import calibrate
    from pipeline.stages.classify import classify
    from pipeline.stages.combine import combine
    from pipeline.stages.compare import compare
    from pipeline.stages.convert_masks import convert_masks
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.export_labels import export_labels, import_labels
    from pipeline.stages.export_model import export_model
    from pipeline.stages.finetune_sam import finetune_sam
    from pipeline.stages.finetune_segmenter import finetune_segmenter
    from pipeline.stages.finetune_yolo import finetune_yolo
    from pipeline.stages.label import label
    from pipeline.stages.learn import learn
    from pipeline.stages.next_images import next_images
    from pipeline.stages.predict import predict
    from pipeline.stages.report import report
    from pipeline.stages.review_labels import review_labels
    from pipeline.stages.run import run
    from pipeline.stages.segment import segment
    from pipeline.stages.stats import stats
    from pipeline.stages.study import study
    from pipeline.stages.synthesize import synthesize
    from pipeline.stages.validate import validate
    from pipeline.types import Dataset, Detections, ImageRecord, Masks

__all__ = [
    "AnomalyConfig",
    "AuditConfig",
    "CalibrateConfig",
    "ClassifyConfig",
    "CombineConfig",
    "ConfigError",
    "ConvertConfig",
    "DataError",
    "Dataset",
    "Detections",
    "EvaluateConfig",
    "ExportConfig",
    "FinetuneConfig",
    "FinetuneSamConfig",
    "FinetuneSegmenterConfig",
    "ImageRecord",
    "LearnConfig",
    "Masks",
    "NextConfig",
    "PipelineError",
    "PredictConfig",
    "ReviewConfig",
    "RunConfig",
    "SegmentConfig",
    "StudyConfig",
    "SynthesizeConfig",
    "WeightsError",
    "__version__",
    "anomaly",
    "audit",
    "calibrate",
    "classify",
    "combine",
    "compare",
    "convert_masks",
    "evaluate",
    "export_labels",
    "export_model",
    "finetune_sam",
    "finetune_segmenter",
    "finetune_yolo",
    "import_labels",
    "label",
    "learn",
    "load_detector",
    "load_model",
    "load_sam",
    "mask_instances",
    "next_images",
    "predict",
    "read_coco",
    "read_image",
    "read_mask",
    "report",
    "review_labels",
    "run",
    "segment",
    "stats",
    "study",
    "synthesize",
    "validate",
    "write_coco",
    "write_png",
]
_MODULES = {
    "pipeline.api": ("load_detector", "load_model", "load_sam", "mask_instances", "read_coco",
                     "read_image", "read_mask"),
    "pipeline.errors": ("ConfigError", "DataError", "PipelineError", "WeightsError"),
    "pipeline.formats.coco": ("write_coco",),
    "pipeline.io.images": ("write_png",),
    "pipeline.stages.export_labels": ("export_labels", "import_labels"),
    "pipeline.types": ("Dataset", "Detections", "ImageRecord", "Masks"),
}  # fmt: skip


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((module for module, names in _MODULES.items() if name in names), None)
    if home is None:
        is_config = name.endswith("Config")
        home = "pipeline.config.schema" if is_config else f"pipeline.stages.{name}"
    value = getattr(import_module(home), name)
    if home.startswith(("pipeline.stages.", "pipeline.api")):
        from pipeline.io.remote.functions import taking_addresses

        value = taking_addresses(value)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
