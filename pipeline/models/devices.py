"""The device for torch, and the seeds of all random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from pipeline.errors import ConfigError


def choose_device(name: str) -> str:
    """`auto` is the first GPU, or the CPU if torch finds no GPU; `cuda` is the first GPU; `cpu` and
    numbers of GPUs such as `0` or `0,1` stay as they are.

    Raises ConfigError for a GPU if torch finds none.
    """
    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not torch.cuda.is_available():
        raise ConfigError(f"--device {name}: torch finds no GPU; use --device cpu or auto")
    return "cuda:0" if name == "cuda" else name


def torch_device(name: str) -> torch.device:
    """The torch device for `auto`, `cpu` or `cuda`, and the first one for `0,1`."""
    first = choose_device(name).split(",")[0]
    return torch.device(f"cuda:{first}" if first.isdigit() else first)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 faster than in single precision."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def same_threads() -> Iterator[None]:
    """After the block, torch has as many threads as before. ultralytics leaves it with one less
    than there are cores: on two cores, all that follows in the process would use one."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def seed_all(seed: int) -> None:
    """Seed the random numbers of Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
