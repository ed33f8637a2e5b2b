"""What ultralytics is given for a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.schema import FinetuneConfig
from pipeline.models.yolo_world import options as yolo_options
from pipeline.models.yolo_world.options import (
    Settings,
    TrainingOptions,
    options_of,
    ultralytics_settings,
)


def settings(config: FinetuneConfig, device: str = "cpu") -> Settings:
    folder = Path("run")
    return ultralytics_settings(
        options_of(config.model_dump()), folder, folder / "d.yaml", Path("w.pt"), device
    )


def test_every_option_has_the_value_of_the_configuration() -> None:
    config = FinetuneConfig(epochs=7, degrees=1.5, merge_classes=True)
    options = options_of(config.model_dump())
    assert isinstance(options, TrainingOptions)
    for name in vars(options):
        if name != "augmentations":
            assert getattr(options, name) == getattr(config, name), name
    assert [entry["name"] for entry in options.augmentations] == [
        entry.name for entry in config.augmentations
    ]
    assert isinstance(options.augmentations, tuple)


def test_mosaics_end_at_the_latest_after_half_of_the_epochs() -> None:
    assert settings(FinetuneConfig(epochs=60, close_mosaic=10))["close_mosaic"] == 10
    assert settings(FinetuneConfig(epochs=9, close_mosaic=10))["close_mosaic"] == 4  # 9 // 2


@pytest.mark.parametrize(
    ("device", "fast", "given", "amp"),
    [
        ("cpu", False, "cpu", False),
        ("cpu", True, "cpu", "bf16"),
        ("cuda:0", False, "0", "bf16"),
        ("0,1", False, "0,1", "bf16"),
    ],
)
def test_mixed_precision_is_for_gpus_and_for_processors_with_bfloat16(
    monkeypatch: pytest.MonkeyPatch, device: str, fast: bool, given: str, amp: bool | str
) -> None:
    monkeypatch.setattr(yolo_options, "has_bfloat16", lambda device: fast)
    written = settings(FinetuneConfig(), device)
    assert (written["device"], written["amp"]) == (given, amp)
    assert settings(FinetuneConfig(amp=False), device)["amp"] is False


def test_no_frozen_layer_is_none_and_not_zero() -> None:
    assert settings(FinetuneConfig(freeze=0))["freeze"] is None
    assert settings(FinetuneConfig(freeze=3))["freeze"] == 3
