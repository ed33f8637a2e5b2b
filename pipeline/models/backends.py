"""What runs a network: torch, or on a CPU OpenVINO, which is quicker there."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch

from pipeline.errors import ConfigError
from pipeline.models.openvino_offline import load_openvino, openvino_core

Backend = Literal["auto", "torch", "openvino"]


def choose_backend(backend: Backend, device: torch.device) -> Literal["torch", "openvino"]:
    """`auto` is OpenVINO on a CPU where it is installed, else torch. Raises ConfigError."""
    if backend == "openvino" and device.type != "cpu":
        raise ConfigError("backend openvino runs on a CPU; choose --device cpu or backend torch")
    if backend != "auto":
        return backend
    if device.type != "cpu":
        return "torch"
    try:
        load_openvino()
    except ConfigError:
        return "torch"
    return "openvino"


@cache
def openvino_precision() -> Literal["bf16", "f32"]:
    """bfloat16 where this CPU has it. Raises ConfigError if OpenVINO is not installed."""
    capabilities = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in capabilities else "f32"
