"""bfloat16 for ultralytics' trainer on a CPU: for the network alone, not for its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pipeline.models import ultralytics_offline

ultralytics_offline.load()

from ultralytics.utils import torch_utils  # noqa: E402

_stock_autocast = torch_utils.autocast


def autocast(enabled: bool | torch.dtype, device: str = "cuda") -> Any:
    """ultralytics' mixed precision, which refuses bfloat16 on a CPU."""
    if device == "cpu" and enabled is torch.bfloat16:
        return torch.autocast(device, torch.bfloat16)
    return _stock_autocast(enabled, device)


class SinglePrecisionLoss:
    """ultralytics' loss, of what a network predicts in bfloat16. In bfloat16 itself, as torch would
    compute much of it on a CPU, boxes are off by a tenth of a cell, and a detector of magnetic
    tiles had half of the AP."""

    def __init__(self, loss: Callable[[Any, Any], Any]) -> None:
        self._loss = loss

    def __call__(self, predictions: Any, batch: Any) -> Any:
        """See ultralytics' own."""
        with torch.autocast("cpu", enabled=False):
            return self._loss(in_single_precision(predictions), batch)


def in_single_precision(value: Any) -> Any:
    """Tensors as float32, within whatever holds them."""
    if isinstance(value, torch.Tensor):
        return value.float()
    if isinstance(value, dict):
        return {key: in_single_precision(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(in_single_precision, value))
    return value
