"""The Ray runner, in processes of their own.

Ray starts several servers on this machine. Where one of them misses its time, Ray ends the process
that it belongs to without a word, or waits for ever. The test's own process is safe from that, and
such a start is tried again. A script that raises is not.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small import draw_product

from pipeline.config.schema import ConvertConfig
from pipeline.stages.convert_masks import convert_masks

pytestmark = pytest.mark.slow
_TRIES = 3
_TOO_LONG = 120.0  # seconds; Ray starts in about 5


def output_of(script: str, *arguments: object) -> str:
    """What a Python script prints. Raises AssertionError with its traceback, or after some tries
    that did not end."""
    for _ in range(_TRIES):
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=_TOO_LONG)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            continue
        if process.returncode == 0:
            return output
        assert "Traceback" not in errors, errors
    raise AssertionError(f"Ray did not start in {_TRIES} tries")


MAP = """
import sys
from functools import partial
from pathlib import Path
import ray
from pipeline.errors import DataError
from pipeline.io.write import write_text, writing_below
from pipeline.runners import map_items

ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
print(list(map_items(abs, range(-40, 0), "ray", 1)))
inside, outside = (Path(name) for name in sys.argv[1:])
write = partial(write_text, text="x")
with writing_below(inside):
    list(map_items(write, [inside / f"{number}.txt" for number in range(20)], "ray", 2))
    try:
        list(map_items(write, [outside / f"{number}.txt" for number in range(20)], "ray", 2))
    except DataError as error:
        print(error)
print(ray.is_initialized())
"""


def test_results_are_in_order_and_workers_write_where_their_parent_may(tmp_path: Path) -> None:
    inside, outside = tmp_path / "out", tmp_path / "elsewhere"
    results, refused, goes_on = output_of(MAP, inside, outside).splitlines()
    assert results == str(list(range(40, 0, -1)))
    assert "lies outside the folder that is written" in refused
    assert len(list(inside.iterdir())) == 20
    assert not outside.exists()
    assert goes_on == "True"  # a cluster that was there before is not ended


CONVERT = """
import sys
from pathlib import Path
from pipeline.config.schema import ConvertConfig
from pipeline.stages.convert_masks import convert_masks

product, output = (Path(name) for name in sys.argv[1:])
convert_masks([product], output, ConvertConfig(folds=2), runner="ray", workers=2)
"""


def test_ray_writes_the_bytes_of_one_process(tmp_path: Path) -> None:
    product = draw_product(tmp_path / "widget", {"crack": 12, "stain": 9}, 4, 2)
    convert_masks([product], tmp_path / "one", ConvertConfig(folds=2))
    output_of(CONVERT, product, tmp_path / "two")
    names = {p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()}
    assert len(names) > 80
    for name in names - {Path("run.json")}:  # which holds the time it took
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
