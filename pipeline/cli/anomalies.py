"""Commands that need no labels, and those that use any trained model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.models import PRODUCT, TRUST
from pipeline.cli.options import (
    DEVICE,
    KEEP,
    OUTPUT,
    OVERWRITE,
    RUNNER,
    WORKERS,
    configured,
    options,
    printed,
)
from pipeline.cli.places import FILE
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config.schema import AnomalyConfig, PredictConfig, SegmentConfig
    from pipeline.runners import Runner


@configured("AnomalyConfig")
@options(PRODUCT, OUTPUT, DEVICE, RUNNER, WORKERS, KEEP, OVERWRITE)
def anomaly(
    config: AnomalyConfig, data: Path, output: Path, device: str, runner: Runner, workers: int,
    keep_going: bool, overwrite: bool,
) -> Any:  # fmt: skip
    """Learn from good images alone to find anomalies.

    A stopped run goes on when the command is called again."""
    from pipeline.stages.anomaly import anomaly as stage

    return stage(
        data=data, output=output, config=config, device=device, keep_going=keep_going,
        overwrite=overwrite, runner=runner, workers=workers,
    )  # fmt: skip


@configured("SegmentConfig", defaults={"tighten": True})
@click.option("--run", "run_folder", type=FILE, help="Folder of pipeline run, for its labeller.")
@click.option("--model", type=FILE, help="Folder of combine, finetune-segmenter or anomaly.")
@click.option("--images", type=FILE, required=True, help="Folder of the images.")
@click.option("--truth", type=FILE, help="COCO file with true masks to evaluate the labels with.")
@options(TRUST, OUTPUT, DEVICE, RUNNER, WORKERS, KEEP, OVERWRITE)
def label(
    config: SegmentConfig, run_folder: Path | None, model: Path | None, images: Path,
    truth: Path | None, trust: Path | None, output: Path, device: str, runner: Runner,
    workers: int, keep_going: bool, overwrite: bool,
) -> Any:  # fmt: skip
    """Label images with all that was learned.

    With the labeller of a run, each label has a mask, a category, an expected IoU and the
    probability of a defect. With an anomaly model, which needs no labels, anomalies become boxes
    and SAM makes masks from them. A stopped run goes on when the command is called again."""
    from pipeline.stages.label import label as stage

    if (run_folder is None) == (model is None):
        raise ConfigError("label needs one of --run RUN and --model MODEL")
    return stage(
        model=model or _labeller_of(run_folder), images=images, output=output, config=config,
        device=device, truth=truth, trust=trust, keep_going=keep_going, overwrite=overwrite,
        runner=runner, workers=workers,
    )  # fmt: skip


def _labeller_of(run_folder: Path | None) -> Path:
    from pipeline.review.generations import last_models

    run = run_folder or Path()
    return last_models(run).get("labeller", run / "labeller")


@configured("PredictConfig")
@click.argument("images", nargs=-1, required=True, type=FILE)
@click.option("--model", type=FILE, required=True,
              help="Folder of finetune-yolo, finetune-segmenter, classify or anomaly.")  # fmt: skip
@options(OUTPUT, DEVICE, RUNNER, WORKERS, KEEP)
def predict(
    config: PredictConfig, images: tuple[Path, ...], model: Path, output: Path, device: str,
    runner: Runner, workers: int, keep_going: bool,
) -> Any:  # fmt: skip
    """Run any trained model on any image.

    IMAGES are files or folders. The output holds scores, boxes, masks and heat maps."""
    from pipeline.stages.predict import predict as stage

    return stage(
        images=images, model=model, output=output, config=config, device=device,
        keep_going=keep_going, runner=runner, workers=workers,
    )  # fmt: skip


@click.command("export-model")
@click.argument("model", type=FILE)
@click.option("--format", "form", type=click.Choice(["onnx", "openvino"]), default="onnx",
              help="Format of the graph [onnx].")  # fmt: skip
@options(OUTPUT)
@printed
def export_model(model: Path, form: str, output: Path) -> Any:
    """Write a trained model as a graph for other runtimes.

    MODEL is a folder of finetune-yolo, classify or anomaly. The graph runs without torch."""
    from pipeline.stages.export_model import export_model as stage

    return stage(model=model, form=form, output=output)
