"""What of a training is in bfloat16 on a CPU: the network, and not its loss."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.models.yolo_world.precision import (
    SinglePrecisionLoss,
    autocast,
    in_single_precision,
)


def test_the_network_computes_in_bfloat16_and_the_loss_in_single_precision() -> None:
    seen = []

    def loss(predictions: Any, batch: Any) -> Any:
        seen.append((predictions["boxes"].dtype, (batch @ batch).dtype))
        return predictions["boxes"].sum()

    weight = torch.ones(2, 2)
    with autocast(torch.bfloat16, "cpu"):
        predicted = weight @ weight
        assert predicted.dtype == torch.bfloat16
        total = SinglePrecisionLoss(loss)({"boxes": predicted}, weight)
    assert seen == [(torch.float32, torch.float32)]
    assert total.dtype == torch.float32


def test_without_mixed_precision_all_is_single() -> None:
    with autocast(False, "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_tensors_are_found_within_whatever_holds_them() -> None:
    half = torch.ones(1, dtype=torch.bfloat16)
    held = in_single_precision({"a": [half, (half, 3)], "b": None})
    assert held["a"][0].dtype == held["a"][1][0].dtype == torch.float32
    assert (held["a"][1][1], held["b"]) == (3, None)
