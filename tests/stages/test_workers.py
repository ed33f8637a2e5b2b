"""`--workers` and `--runner`: the bytes of one process, by several, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from child_processes import children_called
from discs import OPTIONS, QUICK, bytes_of, discs, finished_images, untrained_segmenter
from small import draw_product

from pipeline.config.schema import AnomalyConfig, AuditConfig
from pipeline.errors import DataError
from pipeline.io.work_log import LOG
from pipeline.models.segmentation import pixel_probe
from pipeline.stages.anomaly import anomaly
from pipeline.stages.audit import audit
from pipeline.stages.segment import segment

pytestmark = pytest.mark.slow
ONLY_LINUX = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="only Linux lists children"
)
FEW_PATCHES = AnomalyConfig(image_side=96, folds=2, coreset_ratio=0.2)


def command(*arguments: object) -> subprocess.Popen[str]:
    """The program in a group of processes of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def segment_by_two(folder: Path, prompts: Path, output: Path) -> subprocess.Popen[str]:
    return command(
        "segment", "--boxes", prompts, "--images", folder / "images", "-o", output,
        "--workers", "2", *OPTIONS,
    )  # fmt: skip


def stop_one_of_two(process: subprocess.Popen[str], log: Path) -> int:
    """Wait until a call with two workers has kept an image, while one of the two stands still:
    however slow the tests are, the call has work left. Returns the process that stands still."""
    while len(workers := children_called(b"spawn_main", process.pid)) < 2:
        assert process.poll() is None
        time.sleep(0.001)
    os.kill(workers[1], signal.SIGSTOP)  # the first batch is the other's
    while not finished_images(log):
        assert process.poll() is None
        time.sleep(0.001)
    return workers[1]


def is_alive(group: int) -> bool:
    """Whether a process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_write_the_bytes_of_one_and_name_the_same_faults(
    tmp_path: Path, workers: int
) -> None:
    prompts, images = discs(tmp_path, 13), tmp_path / "images"
    (images / "6.png").write_bytes(b"no image")
    results = [
        segment(
            images, tmp_path / name, QUICK, device="cpu", boxes=prompts, keep_going=True,
            workers=count,
        )
        for name, count in (("one", 1), ("several", workers))
    ]  # fmt: skip
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "several")
    assert results[0].images == results[1].images == 12
    assert results[0].faults == results[1].faults
    assert len(results[1].faults) == 1


def test_a_bad_image_ends_the_work_and_what_was_done_before_it_is_kept(tmp_path: Path) -> None:
    prompts, images = discs(tmp_path, 11), tmp_path / "images"
    (images / "6.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"6\.png: is not a readable image"):
        segment(images, tmp_path / "out", QUICK, device="cpu", boxes=prompts, workers=2)
    assert finished_images(tmp_path / ".out.unfinished" / LOG) == 6


@ONLY_LINUX
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_call_that_is_stopped_leaves_no_process_and_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    prompts = discs(tmp_path, 40)
    segment(tmp_path / "images", tmp_path / "whole", QUICK, device="cpu", boxes=prompts)
    log = tmp_path / ".out.unfinished" / LOG
    process = segment_by_two(tmp_path, prompts, tmp_path / "out")
    worker = stop_one_of_two(process, log)
    process.send_signal(number)
    process.wait(timeout=60)
    with suppress(ProcessLookupError):  # a call that is interrupted ends its workers
        os.kill(worker, signal.SIGCONT)
    process.communicate(timeout=60)  # its workers hold its stdout open
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    while is_alive(process.pid):
        time.sleep(0.01)
    kept = range(finished_images(log))  # images are kept in their order
    assert 1 <= len(kept) < 40
    masks = Path("masks"), Path("overlays")
    times = {
        name: (tmp_path / ".out.unfinished" / name).stat().st_mtime_ns
        for name in (folder / f"{image}.png" for image in kept for folder in masks)
    }
    segment(tmp_path / "images", tmp_path / "out", QUICK, device="cpu", boxes=prompts, workers=2)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    for name, time_ns in times.items():  # nothing that was kept is done twice
        assert (tmp_path / "out" / name).stat().st_mtime_ns == time_ns


@ONLY_LINUX
def test_a_worker_that_is_killed_is_one_line_and_what_was_done_is_kept(tmp_path: Path) -> None:
    prompts = discs(tmp_path, 40)
    log = tmp_path / ".out.unfinished" / LOG
    process = segment_by_two(tmp_path, prompts, tmp_path / "out")
    os.kill(stop_one_of_two(process, log), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.splitlines()[-1].startswith("pipeline: a process was killed")
    assert "Traceback" not in errors
    assert finished_images(log)


def test_label_and_predict_by_several_workers_write_the_bytes_of_one(tmp_path: Path) -> None:
    discs(tmp_path, 9)
    model, images = untrained_segmenter(tmp_path / "model"), tmp_path / "images"
    for name, given, several in (("label", ("--images", images), 3), ("predict", (images,), 2)):
        for workers in (1, several):
            process = command(
                name, *given, "--model", model, "-o", tmp_path / f"{name}{workers}",
                "--device", "cpu", "--workers", workers,
            )  # fmt: skip
            _, errors = process.communicate()
            assert process.returncode == 0, errors
        one = bytes_of(tmp_path / f"{name}1")
        assert b'"score"' in one["instances.json"]
        assert one == bytes_of(tmp_path / f"{name}{several}")


def test_audit_and_anomaly_by_two_workers_write_the_bytes_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_probe, "_STEPS", 20)
    product = draw_product(tmp_path / "widget", {"crack": 5, "stain": 4}, 6, 2)
    (product / "test" / "crack" / "002.png").write_bytes(b"no image")
    faults = []
    for workers in (1, 2):
        audited = audit(
            product, tmp_path / f"audit{workers}", AuditConfig(folds=2), device="cpu",
            keep_going=True, workers=workers,
        )  # fmt: skip
        tested = anomaly(
            product, tmp_path / f"anomaly{workers}", FEW_PATCHES, device="cpu",
            keep_going=True, workers=workers,
        )  # fmt: skip
        faults.append((audited.faults, tested.faults))
    assert faults[0] == faults[1]
    assert len(faults[0][0]) == 1
    for name in ("audit", "anomaly"):
        assert bytes_of(tmp_path / f"{name}1") == bytes_of(tmp_path / f"{name}2")
