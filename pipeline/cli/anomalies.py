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
    SEED,
    SET,
    build,
    common,
    options,
)


@click.command()
@click.option("--data", type=FILE, required=True, help="MVTec product folder.")
@options(OUTPUT, SEED, DEVICE, KEEP, CONFIG, SET)
@click.option("--model", type=click.Choice(["patchcore", "autoencoder", "vae"]), help="[patchcore]")
@click.option(
    "--backbone",
    help="PatchCore's: mobilenet_v2, resnet18, resnet50, wide_resnet50_2, or a SAM [mobilenet_v2].",
)
@click.option("--image-side", type=int, help="Side in pixels at which PatchCore sees [320].")
@click.option("--share", type=float, help="Of the patches that PatchCore keeps [0.1].")
@click.option("--error", type=click.Choice(["ssim", "l2"]), help="Of the autoencoders [ssim].")
@click.option("--steps", type=int, help="Of the autoencoders' training [1500].")
@click.option("--alarms", type=float, help="Share of good images that may be marked [0.05].")
@click.option("--good-limit", type=int, help="Use at most so many good images.")
@click.option("--mask-threshold", type=int, help="As in convert-masks.")
@click.option("--group-by", help="As in convert-masks.")
@click.option("--split", type=FILE, help="Reuse convert-masks' split.json.")
@common
def anomaly(
    data: Path, output: Path, device: str, keep_going: bool, config: Path | None,
    settings: tuple[str, ...], **said: Any,
) -> Any:  # fmt: skip
    """Learn good images alone, and find what is not like them. A stopped run goes on when called
    again."""
    from pipeline.stages.anomaly import anomaly as stage

    chosen = build("AnomalyConfig", config, settings, **said)
    return stage(data, output, chosen, device, keep_going)
