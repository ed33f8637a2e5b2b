"""How many threads work, and how they wait.

OpenMP's threads spin while they wait for each other. Beside another busy process that makes a
training several times slower, for the spinning threads take the core of the one that works
(benchmarks/threads.py). So they wait passively, unless the user has chosen otherwise.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

_PASSIVE = {
    "OMP_WAIT_POLICY": "PASSIVE",  # OpenMP's own setting
    "GOMP_SPINCOUNT": "0",  # GNU's OpenMP, which torch brings along
    "KMP_BLOCKTIME": "0",  # Intel's and LLVM's OpenMP
}
_CGROUPS = Path("/sys/fs/cgroup")


def wait_passively(environment: MutableMapping[str, str] | None = None) -> None:
    """Let OpenMP's threads sleep while they wait, in this process and those that it starts.

    It has an effect only before torch or another user of OpenMP is imported. Variables that are
    already set stay.
    """
    chosen = os.environ if environment is None else environment
    if not any(name in chosen for name in _PASSIVE):
        chosen.update(_PASSIVE)


def obey_limit(
    environment: MutableMapping[str, str] | None = None, cgroups: Path = _CGROUPS
) -> None:
    """Let OpenMP start no more threads than a control group has CPUs, which it does not see by
    itself. OMP_NUM_THREADS of the user stays."""
    chosen = os.environ if environment is None else environment
    limit = _cgroup_limit(cgroups)
    if limit is not None:
        chosen.setdefault("OMP_NUM_THREADS", str(available_cpus(cgroups)))


def available_cpus(cgroups: Path = _CGROUPS) -> int:
    """The CPUs that this process may use, at least 1: by its affinity and its cgroup's limit."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = _cgroup_limit(cgroups)
    return max(1, min(count, limit)) if limit else max(1, count)


def _cgroup_limit(cgroups: Path) -> int | None:
    """CPUs by the quota of control groups, version 2 or 1, rounded up; None without a quota."""
    with suppress(OSError, ValueError):
        quota, period = (cgroups / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else -(-int(quota) // int(period))
    with suppress(OSError, ValueError):
        quota_us, period_us = (
            int((cgroups / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii"))
            for name in ("quota", "period")
        )
        return None if quota_us <= 0 else -(-quota_us // period_us)
    return None
