"""Which device computes."""

from __future__ import annotations

import ctypes
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


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next image instead of handing it back to the system.

    A SAM encoding frees and asks for the same large blocks again and again, and the page faults of
    that take half its time on a CPU (benchmarks/sam_encoder.py). Elsewhere than on glibc, nothing.
    """
    trim_threshold, mmap_max = -1, -4  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):
        return


def seed_all(seed: int) -> None:
    """Seed python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
