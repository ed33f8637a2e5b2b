"""How many threads work, and how they wait.

OpenMP's threads spin while they wait for each other. Beside another busy process that makes a
training several times slower, because spinning threads take the core of the one that works. On an
idle machine, threads that sleep while they wait are up to twice as slow (benchmarks/threads.py). So
they sleep where other processes need the CPUs when the program starts, and spin elsewhere, unless
the user has chosen.

OpenVINO's threads (TBB) need no setting: they give their core away between looking for work.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

_PASSIVE = {
    "OMP_WAIT_POLICY": "PASSIVE",  # OpenMP's own setting
    "GOMP_SPINCOUNT": "0",  # GNU's OpenMP, which torch, faiss and scikit-learn bring along
    "KMP_BLOCKTIME": "0",  # Intel's and LLVM's OpenMP
}
_OTHER_POOLS = {
    "OPENCV_THREAD_POOL_ACTIVE_WAIT_MAIN": "0",  # OpenCV's own pool: 10000 rounds by default
    "OPENCV_THREAD_POOL_ACTIVE_WAIT_WORKER": "0",  # 2000 rounds
    "OPENBLAS_THREAD_TIMEOUT": "4",  # numpy's and scipy's: 2^4 cycles, the least; 2^26 by default
}
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_LOADS = Path("/proc/loadavg")
_SAMPLES, _PAUSE_S = 3, 0.002


def choose_waiting(
    environment: MutableMapping[str, str] | None = None, loads: Path = _LOADS
) -> None:
    """Let threads sleep while they wait, as `wait_passively`, if the machine is busy now."""
    if is_busy(environment, loads):
        wait_passively(environment)


def is_busy(environment: MutableMapping[str, str] | None = None, loads: Path = _LOADS) -> bool:
    """Whether other processes run on so many CPUs that not each thread of this one would have its
    own. True where the system does not say.

    loads: Linux's file with the number of tasks that run now, this one among them.
    """
    running = []
    try:
        for _ in range(_SAMPLES):  # the least: a process of a moment does not count
            running.append(int(loads.read_text(encoding="ascii").split()[3].partition("/")[0]))
            time.sleep(_PAUSE_S)
    except (OSError, ValueError, IndexError):
        return True
    return min(running) - 1 + working_threads(environment) > (os.cpu_count() or 1)


def wait_passively(environment: MutableMapping[str, str] | None = None) -> None:
    """Let threads sleep while they wait, in this process and those that it starts.

    It has an effect only before torch, OpenCV or numpy is imported. Variables that are already set
    stay; a user who set one of OpenMP's has chosen for all three.
    """
    variables = os.environ if environment is None else environment
    if not any(name in variables for name in _PASSIVE):
        variables.update(_PASSIVE)
    for name, value in _OTHER_POOLS.items():
        variables.setdefault(name, value)


def obey_limit(
    environment: MutableMapping[str, str] | None = None,
    cgroups: Path = _CGROUPS,
    own: Path = _OWN_CGROUP,
) -> None:
    """Let OpenMP and OpenCV start no more threads than a control group allows.

    OpenMP does not read such a limit by itself. A limit above the process's CPUs changes nothing.
    OMP_NUM_THREADS of the user stays.
    """
    variables = os.environ if environment is None else environment
    limit = _cgroup_limit(cgroups, own)
    if limit is not None and limit < _affinity():
        variables.setdefault("OMP_NUM_THREADS", str(limit))
        variables.setdefault("OPENCV_FOR_THREADS_NUM", str(limit))


def available_cpus(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> int:
    """The CPUs that this process may use, at least 1: by its affinity and its cgroup's limit."""
    limit = _cgroup_limit(cgroups, own)
    return _affinity() if limit is None else min(_affinity(), limit)


def working_threads(environment: MutableMapping[str, str] | None = None) -> int:
    """Threads for one computation: OMP_NUM_THREADS of the user, or `available_cpus`."""
    setting = (os.environ if environment is None else environment).get("OMP_NUM_THREADS", "")
    first = setting.split(",")[0].strip()  # OpenMP allows one number a nesting level
    return int(first) if first.isascii() and first.isdigit() and int(first) else available_cpus()


def computing_threads() -> int:
    """Threads that torch has in this process, or would have. Variables may say less by now, as
    ultralytics sets OMP_NUM_THREADS when it is imported."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else working_threads()


def worker_environment() -> dict[str, str]:
    """Variables of a process that works beside this one: it has as many threads as this one, so
    that its sums have the same bits, and they sleep while they wait."""
    variables = {"OMP_NUM_THREADS": str(computing_threads())}
    wait_passively(variables)
    return variables


def _affinity() -> int:
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _cgroup_limit(cgroups: Path, own: Path) -> int | None:
    """CPUs by the strictest quota of this process's control groups, rounded up, at least 1; None
    without a quota."""
    folders = _own_folders(cgroups, own)
    limits = [limit for folder in folders if (limit := _quota(folder)) is not None]
    return max(1, min(limits)) if limits else None


def _own_folders(cgroups: Path, own: Path) -> Iterator[Path]:
    """The folders of this process's control groups and of their parents, version 2 and 1. Not all
    of them need to exist: a container sees only its own part, as the root."""
    paths = {"": "/", "cpu": "/"}
    with suppress(OSError, UnicodeError, ValueError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                paths["cpu" if controllers else ""] = path
    for controller, path in paths.items():
        parts = PurePosixPath(path.lstrip("/"))
        for part in (parts, *parts.parents):
            if ".." not in part.parts:
                yield cgroups / controller / part


def _quota(folder: Path) -> int | None:
    """CPUs that one control group allows, rounded up; None without a quota."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else -(-int(quota) // int(period))
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota_us, period_us = (
            int((folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii"))
            for name in ("quota", "period")
        )
        return None if quota_us <= 0 else -(-quota_us // period_us)
    return None
