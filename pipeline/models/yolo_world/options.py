"""Options of a YOLO-World training, and the same as ultralytics' settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from pipeline.models.devices import has_bfloat16

Settings = dict[str, str | int | float | bool | None]  # ultralytics' own


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How YOLO-World is trained.

    image_side: of the network's input, in pixels. freeze: layers, from the input, that do not
    learn. patience: epochs without a gain after which training stops. amp: bfloat16 where the
    device is faster in it. merge_classes: train one category. mosaic: probability; close_mosaic:
    last epochs without.
    degrees: largest rotation. translate, scale: largest change, as a share. flip_vertical,
    flip_horizontal: probabilities. augmentations: `name` and arguments of each transform in
    albumentations.
    """

    epochs: int
    image_side: int
    batch: int
    learning_rate: float
    freeze: int
    patience: int
    amp: bool
    workers: int
    merge_classes: bool
    mosaic: float
    close_mosaic: int
    degrees: float
    translate: float
    scale: float
    flip_vertical: float
    flip_horizontal: float
    augmentations: tuple[Mapping[str, JsonValue], ...]
    seed: int


def options_of(settings: Mapping[str, Any]) -> TrainingOptions:
    """The options among settings, which have the same names there."""
    return TrainingOptions(
        **{field.name: settings[field.name] for field in fields(TrainingOptions)}
    )


def ultralytics_settings(
    options: TrainingOptions, run: Path, data: Path, weights: Path, device: str
) -> Settings:
    """ultralytics' settings for one training; all but the augmentations, which are objects there.

    run: folder in which ultralytics makes its own folder `train`. data: the data set's YAML file.
    device: `cpu`, `cuda:0`, or the numbers of several GPUs.
    """
    mixed = options.amp and (device != "cpu" or has_bfloat16(torch.device("cpu")))
    return {
        "model": str(weights),
        "data": str(data.resolve()),
        "project": str(run.resolve()),
        "name": "train",
        "exist_ok": True,
        "epochs": options.epochs,
        "imgsz": options.image_side,
        "batch": options.batch,
        "nbs": options.batch,
        "optimizer": "AdamW",
        "lr0": options.learning_rate,
        "lrf": 0.05,
        "cos_lr": True,
        "warmup_epochs": 2,
        "warmup_bias_lr": options.learning_rate,
        "freeze": options.freeze or None,
        "patience": options.patience,
        "amp": "bf16" if mixed else False,
        "workers": options.workers,
        "single_cls": options.merge_classes,
        "mosaic": options.mosaic,
        "close_mosaic": min(options.close_mosaic, options.epochs // 2),
        "degrees": options.degrees,
        "translate": options.translate,
        "scale": options.scale,
        "flipud": options.flip_vertical,
        "fliplr": options.flip_horizontal,
        "hsv_h": 0.0,
        "hsv_s": 0.2,
        "hsv_v": 0.2,
        "seed": options.seed,
        "device": device.removeprefix("cuda:"),
        "verbose": False,
        "plots": False,
    }
