"""How freed memory is kept."""

from __future__ import annotations

import ctypes


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next image instead of handing it back to the system.

    Work on one image after another frees and asks for the same large blocks again and again, and
    the page faults of that take half the time of a SAM encoding on a CPU and of reading a mask
    (benchmarks/sam_encoder.py). Without glibc it does nothing.
    """
    trim_threshold, mmap_max = -1, -4  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):
        return
