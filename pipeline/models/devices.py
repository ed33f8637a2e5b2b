"""Which device computes."""

from __future__ import annotations

import random

import numpy as np
import torch

from pipeline.errors import ConfigError


def choose_device(name: str) -> str:
    """`auto` is CUDA where there is one, else the CPU; `cpu`, `cuda`, `0`, `0,1` are as said.

    Raises ConfigError when a GPU is asked for and there is none.
    """
    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not torch.cuda.is_available():
        raise ConfigError(f"--device {name}: torch sees no GPU here; use --device cpu or auto")
    return "cuda:0" if name == "cuda" else name


def torch_device(name: str) -> torch.device:
    """One torch device for `auto`, `cpu`, `cuda`, or the first of `0,1`."""
    chosen = choose_device(name).split(",")[0]
    return torch.device(f"cuda:{chosen}" if chosen.isdigit() else chosen)


def seed_all(seed: int) -> None:
    """Seed python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
