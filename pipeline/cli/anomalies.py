"""Verbs over models that need no labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import (
    CONFIG,
    DEVICE,
    FILE,
    KEEP,
    OUTPUT,
    OUTSIDE,
    OVERWRITE,
    SEED,
    SET,
    build,
    common,
    options,
)


@click.command()
@click.option("--data", type=FILE, required=True, help="MVTec product folder.")
@options(OUTPUT, SEED, DEVICE, KEEP, OVERWRITE, OUTSIDE, CONFIG, SET)
@click.option("--model", type=click.Choice(["patchcore", "autoencoder", "vae"]), help="[patchcore]")
@click.option(
    "--backbone",
    help="PatchCore's: mobilenet_v2, resnet18, resnet50, wide_resnet50_2, or a SAM [mobilenet_v2].",
)
@click.option("--image-side", type=int, help="Side in pixels at which PatchCore sees [320].")
@click.option("--share", type=float, help="Of the patches that PatchCore keeps [0.1].")
@click.option("--error", type=click.Choice(["ssim", "l2"]), help="Of the autoencoders [ssim].")
@click.option("--steps", type=int, help="Of the autoencoders' training [600].")
@click.option("--alarms", type=float, help="Share of good images that may be marked [0.05].")
@click.option("--good-limit", type=int, help="Use at most so many good images.")
@click.option("--mask-threshold", type=int, help="As in convert-masks.")
@click.option("--group-by", help="As in convert-masks.")
@click.option("--split-file", type=FILE, help="Reuse convert-masks' split.json.")
@common
def anomaly(
    data: Path, output: Path, device: str, keep_going: bool, overwrite: bool,
    config: Path | None, settings: tuple[str, ...], **said: Any,
) -> Any:  # fmt: skip
    """Learn good images alone, and find what is not like them. A stopped run goes on when called
    again."""
    from pipeline.stages.anomaly import anomaly as stage

    chosen = build("AnomalyConfig", config, settings, **said)
    return stage(data, output, chosen, device, keep_going, overwrite)


@click.command()
@click.option(
    "--from", "origin", type=click.Choice(["anomalies"]), default="anomalies",
    help="What finds the boxes.",
)  # fmt: skip
@click.option("--model", type=FILE, required=True, help="Folder of pipeline anomaly.")
@click.option("--images", type=FILE, required=True, help="Folder of the images.")
@click.option("--truth", type=FILE, help="COCO file with true masks, to be held against them.")
@click.option("--split", help="Only the truth's images of this part.")
@click.option("--sam", help="SAM that makes masks of the boxes, or a folder of finetune-sam.")
@click.option("--confidence", type=float, help="Leave out regions of a lower score [all from 0.5].")
@options(OUTPUT, DEVICE, KEEP, OUTSIDE, CONFIG, SET)
@common
def label(
    origin: str, model: Path, images: Path, truth: Path | None, output: Path, device: str,
    keep_going: bool, config: Path | None, settings: tuple[str, ...], **said: Any,
) -> Any:  # fmt: skip
    """Pre-label images without any label.

    What is not like good images becomes boxes, SAM makes them masks, and COCO holds both."""
    from pipeline.stages.label import label as stage

    del origin
    chosen = build("SegmentConfig", config, settings, **{"tighten": True, **said})
    return stage(model, images, output, chosen, device=device, truth=truth, keep_going=keep_going)


@click.command()
@click.argument("images", nargs=-1, required=True, type=FILE)
@click.option(
    "--model", type=FILE, required=True, help="Folder of finetune-yolo, classify or anomaly."
)
@click.option("--sam", help="Make masks of the boxes with this SAM, or folder of finetune-sam.")
@options(OUTPUT, DEVICE, KEEP, OUTSIDE)
@common
def predict(
    images: tuple[Path, ...], model: Path, output: Path, device: str, keep_going: bool, **said: Any
) -> Any:
    """Run any trained model on any image.

    IMAGES are files or folders; written are scores, boxes, masks, heat maps."""
    from pipeline.stages.predict import predict as stage

    return stage(
        images, model, output, build("PredictConfig", None, (), **said), device, keep_going
    )


@click.command("export-model")
@click.argument("model", type=FILE)
@click.option("--format", "form", type=click.Choice(["onnx", "openvino"]), default="onnx")
@options(OUTPUT)
@common
def export_model(model: Path, form: str, output: Path) -> Any:
    """Write a trained model as a graph for other runtimes.

    MODEL is a folder of finetune-yolo, classify or anomaly; the graph runs without torch."""
    from pipeline.stages.export_model import export_model as stage

    return stage(model, output, form)
