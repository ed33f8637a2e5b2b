"""`next` on a run whose photos are alike but for one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from learned_runs import bright_maps, reviewed_run
from small import CallPipeline

from pipeline.io.images import write_png

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _bright() -> Iterator[None]:
    with bright_maps():
        yield


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return reviewed_run(tmp_path)


def test_images_to_review_are_listed_with_a_reason_and_as_a_file(
    run: Path, call_pipeline: CallPipeline
) -> None:
    ended = call_pipeline("next", run, "--count", 3, "--device", "cpu", "--json")
    assert ended.code == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["candidates"], found["known"], len(found["images"])) == (4, 27, 3)
    names = [image["name"] for image in found["images"]]
    assert set(found["reasons"]) == set(names) <= {f"new{n}.png" for n in range(4)}
    assert all(found["reasons"].values())
    assert (run / "next.txt").read_text().splitlines() == names


def test_of_a_folder_the_photo_that_is_unlike_all_others_comes_first(
    run: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    folder = tmp_path / "more"
    shutil.copytree(run.parent / "photos", folder)
    y, x = np.mgrid[0:48, 0:64]
    stripes = ((x // 4 + y // 4) % 2 * 100).astype(np.uint8)
    write_png(folder / "the_odd_one.png", cv2.cvtColor(stripes, cv2.COLOR_GRAY2RGB))
    listed = tmp_path / "list.txt"
    ended = call_pipeline(
        "next", run, "--images", folder, "--count", 2, "-o", listed, "--device", "cpu"
    )
    assert ended.code == 0, ended.stderr
    assert listed.read_text().splitlines()[0] == "the_odd_one.png"
    (reason,) = [
        line for line in ended.stdout.splitlines() if line.startswith("  the_odd_one.png:")
    ]
    assert "unlike the known images" in reason


@pytest.mark.parametrize(
    ("what", "message"),
    [("data", "holds no labeller"), ("empty", "holds no image")],
)
def test_nothing_to_choose_from_is_one_line(
    run: Path, tmp_path: Path, call_pipeline: CallPipeline, what: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    folder = run / "data" if what == "data" else run
    ended = call_pipeline("next", folder, "--images", tmp_path / "empty", "--device", "cpu")
    assert (ended.code, message in ended.stderr) == (2, True), ended.stderr
    assert ended.stderr.count("\n") == 1
