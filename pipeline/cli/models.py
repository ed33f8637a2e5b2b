"""Commands that train models, and turn boxes into masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    DEVICE,
    KEEP,
    LEARNERS,
    OUTPUT,
    OVERWRITE,
    RUNNER,
    WORKERS,
    configured,
    options,
)
from pipeline.cli.places import FILE
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config.schema import (
        CalibrateConfig,
        ClassifyConfig,
        CombineConfig,
        EvaluateConfig,
        FinetuneConfig,
        FinetuneSamConfig,
        FinetuneSegmenterConfig,
        SegmentConfig,
        StudyConfig,
    )
    from pipeline.runners import Runner

DATA = click.option("--data", type=FILE, required=True, help="Folder that convert-masks wrote.")
TRUST = click.option(
    "--trust", type=FILE, help="Folder of calibrate for this detector and this SAM."
)
PRODUCT = click.option("--data", type=FILE, required=True, help="MVTec product folder.")


@configured("FinetuneConfig", "finetune-yolo")
@options(DATA, OUTPUT, DEVICE, KEEP)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace a finished run, and delete unfinished work of other settings.",
)
def finetune_yolo(
    config: FinetuneConfig, data: Path, output: Path, device: str, keep_going: bool, overwrite: bool
) -> Any:
    """Fine-tune YOLO-World to find the defects.

    A stopped run goes on when the command is called again."""
    from pipeline.stages.finetune_yolo import finetune_yolo as stage

    return stage(
        data=data, output=output, config=config, device=device, keep_going=keep_going,
        overwrite=overwrite,
    )  # fmt: skip


@configured("FinetuneSamConfig", "finetune-sam")
@options(DATA, OUTPUT, DEVICE, RUNNER, LEARNERS, KEEP, OVERWRITE)
def finetune_sam(
    config: FinetuneSamConfig, data: Path, output: Path, device: str, runner: Runner,
    workers: int, keep_going: bool, overwrite: bool,
) -> Any:  # fmt: skip
    """Tune SAM on a few masks.

    It is tested on held-out photos. A stopped run goes on when the command is called again."""
    from pipeline.stages.finetune_sam import finetune_sam as stage

    return stage(
        data=data, output=output, config=config, device=device, keep_going=keep_going,
        overwrite=overwrite, runner=runner, workers=workers,
    )  # fmt: skip


@configured("FinetuneSegmenterConfig", "finetune-segmenter")
@options(DATA, OUTPUT, DEVICE, RUNNER, LEARNERS, KEEP, OVERWRITE)
def finetune_segmenter(
    config: FinetuneSegmenterConfig, data: Path, output: Path, device: str, runner: Runner,
    workers: int, keep_going: bool, overwrite: bool,
) -> Any:  # fmt: skip
    """Train a network that finds defects pixel by pixel.

    It learns from the masks and from good photos, and is tested on held-out photos. A stopped run
    goes on when the command is called again."""
    from pipeline.stages.finetune_segmenter import finetune_segmenter as stage

    return stage(
        data=data, output=output, config=config, device=device, keep_going=keep_going,
        overwrite=overwrite, runner=runner, workers=workers,
    )  # fmt: skip


@configured("CombineConfig")
@click.option("--segmenter", type=FILE, required=True, help="Folder of finetune-segmenter.")
@click.option("--detector", type=FILE, help="Folder of finetune-yolo with --folds.")
@click.option("--anomaly", type=FILE, help="Folder of anomaly.")
@options(DATA, OUTPUT, DEVICE, KEEP)
def combine(
    config: CombineConfig, data: Path, segmenter: Path, detector: Path | None,
    anomaly: Path | None, output: Path, device: str, keep_going: bool,
) -> Any:  # fmt: skip
    """Make one labeller of all that finds defects.

    DATA is what the models learned from; each photo is judged by models that did not learn from
    it. Only what gains is used. `pipeline label` runs the labeller."""
    from pipeline.stages.combine import combine as stage

    return stage(
        data=data, segmenter=segmenter, output=output, config=config, detector=detector,
        anomaly=anomaly, device=device, keep_going=keep_going,
    )  # fmt: skip


@configured("CalibrateConfig")
@click.option("--detector", type=FILE, required=True, help="Folder of finetune-yolo or anomaly.")
@options(DATA, OUTPUT, DEVICE, KEEP, OVERWRITE)
def calibrate(
    config: CalibrateConfig, detector: Path, data: Path, output: Path, device: str,
    keep_going: bool, overwrite: bool,
) -> Any:  # fmt: skip
    """Measure how far labels that a detector found can be trusted.

    DATA is what detector and SAM learned from; each photo is judged by models that did not learn
    from it. segment --trust uses the result. A stopped run goes on when the command is called
    again."""
    from pipeline.stages.calibrate import calibrate as stage

    return stage(
        data=data, detector=detector, output=output, config=config, device=device,
        keep_going=keep_going, overwrite=overwrite,
    )  # fmt: skip


@configured("SegmentConfig")
@click.option("--prompt", type=click.Choice(["boxes"]), default="boxes", help="What prompts SAM.")
@click.option("--boxes", type=FILE, help="COCO file with the boxes.")
@click.option(
    "--detector",
    type=FILE,
    help="Folder of finetune-yolo, finetune-segmenter or anomaly that finds boxes.",
)
@click.option("--images", type=FILE, required=True, help="Folder of the images.")
@options(TRUST, OUTPUT, DEVICE, RUNNER, WORKERS, KEEP, OVERWRITE)
def segment(
    config: SegmentConfig, prompt: str, images: Path, output: Path, boxes: Path | None,
    detector: Path | None, trust: Path | None, device: str, runner: Runner, workers: int,
    keep_going: bool, overwrite: bool,
) -> Any:  # fmt: skip
    """Turn boxes into masks with SAM.

    Each mask has an expected IoU; review.html shows the lowest ones. Masks of a detector's boxes
    have one with --trust alone. With --boxes and --detector, the detector searches the images that
    the file lists. A stopped run goes on when the command is called again."""
    from pipeline.stages.segment import segment as stage

    del prompt
    if boxes is None and detector is None:
        raise ConfigError("segment needs --boxes COCO.json or --detector RUN")
    return stage(
        images=images, output=output, config=config, device=device, boxes=boxes, detector=detector,
        trust=trust, keep_going=keep_going, overwrite=overwrite, runner=runner, workers=workers,
    )  # fmt: skip


@configured("EvaluateConfig")
@click.option("--truth", type=FILE, required=True, help="COCO file with the true objects.")
@click.option("--predictions", type=FILE, required=True, help="COCO file to evaluate.")
@click.option("--images", type=FILE, help="Folder of the images, for GrabCut and pictures.")
@click.option("--output", "-o", type=FILE, help="Folder for figures and pictures.")
@click.option("--trust", type=FILE, help="Folder of calibrate that the predictions are of.")
@options(KEEP)
def evaluate(
    config: EvaluateConfig, truth: Path, predictions: Path, images: Path | None,
    output: Path | None, trust: Path | None, keep_going: bool,
) -> Any:  # fmt: skip
    """Compare predictions with the truth.

    AP and mask IoU, beside those of filled boxes and GrabCut, and whether the expected IoU holds.
    With --trust, the latter also together with the out-of-fold masks."""
    from pipeline.stages.evaluate import evaluate as stage

    return stage(
        truth=truth, predictions=predictions, output=output, config=config, images=images,
        trust=trust, keep_going=keep_going,
    )  # fmt: skip


@configured("ClassifyConfig")
@options(PRODUCT, OUTPUT, DEVICE, KEEP, OVERWRITE)
def classify(
    config: ClassifyConfig, data: Path, output: Path, device: str, keep_going: bool, overwrite: bool
) -> Any:
    """Train and test the image-level baseline.

    A stopped run goes on when the command is called again."""
    from pipeline.stages.classify import classify as stage

    return stage(
        data=data, output=output, config=config, device=device, keep_going=keep_going,
        overwrite=overwrite,
    )  # fmt: skip


@configured("StudyConfig", file_argument=True)
@options(PRODUCT, OUTPUT, DEVICE, KEEP, OVERWRITE)
def study(
    config: StudyConfig, data: Path, output: Path, device: str, keep_going: bool, overwrite: bool
) -> Any:
    """Compare classifiers on the same folds.

    CONFIG is a YAML file that names them. The result says which differences are significant. A
    stopped run goes on when the command is called again."""
    from pipeline.stages.study import study as stage

    return stage(
        data=data, output=output, config=config, device=device, keep_going=keep_going,
        overwrite=overwrite,
    )  # fmt: skip
