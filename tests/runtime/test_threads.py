from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runtime.threads import (
    available_cpus,
    choose_waiting,
    is_busy,
    obey_limit,
    wait_passively,
    worker_environment,
    working_threads,
)

ALL = available_cpus()
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.mark.parametrize(
    ("before", "policy"),
    [
        ({}, "PASSIVE"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
        ({"KMP_BLOCKTIME": "200"}, None),  # who sets one of them has chosen
    ],
)
def test_threads_wait_passively_unless_the_user_chose(
    before: dict[str, str], policy: str | None
) -> None:
    environment = dict(before)
    wait_passively(environment)
    assert environment.get("OMP_WAIT_POLICY") == policy
    assert environment.items() >= before.items()


@pytest.mark.parametrize(
    ("text", "busy"),
    [
        (None, True),  # a system without the file
        ("0.00 0.00 0.00", True),
        ("9.00 9.00 9.00 1/200 77\n", False),  # only this process runs, whatever ran before
        (f"0.00 0.00 0.00 {CPUS + 1}/200 77\n", True),  # one other process for each CPU
    ],
)
def test_threads_sleep_where_other_processes_need_the_cpus(
    tmp_path: Path, text: str | None, busy: bool
) -> None:
    loads = tmp_path / "loadavg"
    if text is not None:
        loads.write_text(text)
    environment = {"OMP_NUM_THREADS": "1"}
    assert is_busy(environment, loads) == busy
    choose_waiting(environment, loads)
    assert ("OMP_WAIT_POLICY" in environment) == busy


def test_the_pools_of_opencv_and_openblas_wait_passively_too() -> None:
    environment = {"OPENBLAS_THREAD_TIMEOUT": "20"}
    wait_passively(environment)
    assert environment["OPENBLAS_THREAD_TIMEOUT"] == "20"
    assert environment["OPENCV_THREAD_POOL_ACTIVE_WAIT_MAIN"] == "0"


def test_the_policy_is_set_before_torch_can_be_imported() -> None:
    """More threads than any machine has CPUs: it is busy."""
    script = "import os, pipeline; print(os.environ['OMP_WAIT_POLICY'])"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP", "GOMP", "KMP"))}
    environment["OMP_NUM_THREADS"] = "1000000"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "PASSIVE\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, CPUS),  # no control group
        ("max 100000", CPUS),
        ("100000 100000", 1),
        ("50000 100000", 1),  # half a CPU is rounded up
        ("99900000 100000", CPUS),  # 999 CPUs, more than there are
        ("0 100000", 1),
        ("100000 0", CPUS),
        ("nonsense", CPUS),
    ],
)
def test_the_limit_of_a_control_group_counts(
    tmp_path: Path, text: str | None, expected: int
) -> None:
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert available_cpus(tmp_path, tmp_path / "none") == expected


@pytest.mark.parametrize(("quota", "expected"), [(-1, CPUS), (100_000, 1)])
def test_the_limit_of_an_old_control_group_counts(
    tmp_path: Path, quota: int, expected: int
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cpus(tmp_path, tmp_path / "none") == expected


@pytest.mark.parametrize(
    ("text", "before", "threads"),
    [
        ("max 100000", {}, None),
        ("99900000 100000", {}, None),  # as without a limit
        ("100000 100000", {}, "1"),
        ("100000 100000", {"OMP_NUM_THREADS": "7"}, "7"),
    ],
)
def test_openmp_starts_no_more_threads_than_the_limit(
    tmp_path: Path, text: str, before: dict[str, str], threads: str | None
) -> None:
    (tmp_path / "cpu.max").write_text(text)
    environment = dict(before)
    obey_limit(environment, tmp_path, tmp_path / "none")
    assert environment.get("OMP_NUM_THREADS") == threads


@pytest.mark.parametrize(
    ("listed", "folder", "file"),
    [
        ("0::/jobs/mine\n", "jobs/mine", "cpu.max"),
        ("0::/jobs/mine\n", "jobs", "cpu.max"),  # of a parent
        ("9:pids:/\n1:cpu,cpuacct:/jobs\n0::/\n", "cpu/jobs", "cpu.cfs_quota_us"),
    ],
)
def test_the_limit_of_the_own_control_group_counts(
    tmp_path: Path, listed: str, folder: str, file: str
) -> None:
    own, group = tmp_path / "cgroup", tmp_path / "all" / folder
    own.write_text(listed)
    group.mkdir(parents=True)
    (group / file).write_text("100000 100000\n" if file == "cpu.max" else "100000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cpus(tmp_path / "all", own) == 1


def test_a_container_that_sees_only_its_own_part_is_limited_by_the_root(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/docker/abc\n1:cpu:/../..\nnonsense\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert available_cpus(tmp_path, tmp_path / "cgroup") == 1


@pytest.mark.parametrize(
    ("wanted", "threads"),
    [("", ALL), ("3", 3), ("5,2", 5), ("0", ALL), ("x", ALL)],
)
def test_the_users_number_of_threads_wins(wanted: str, threads: int) -> None:
    assert working_threads({"OMP_NUM_THREADS": wanted}) == threads


def test_a_worker_computes_with_as_many_threads_as_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ultralytics lowers OMP_NUM_THREADS, which torch has read before."""
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads() + 1))
    assert worker_environment()["OMP_NUM_THREADS"] == str(torch.get_num_threads())
    monkeypatch.delitem(sys.modules, "torch")
    assert worker_environment()["OMP_NUM_THREADS"] == str(torch.get_num_threads() + 1)
