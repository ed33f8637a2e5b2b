"""`pipeline convert-masks`: ground-truth masks to COCO, YOLO and PNG, saying what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import ConvertConfig
from pipeline.errors import Faults
from pipeline.formats.coco import read_coco, write_coco
from pipeline.formats.mvtec import group_by, read_defect_masks, read_mvtec
from pipeline.formats.png_masks import write_png_mask
from pipeline.formats.yolo import parts_of, write_data_yaml, write_yolo
from pipeline.geometry import masks as mask_geometry
from pipeline.progress import track
from pipeline.run_record import FILE, RunRecord, fingerprint
from pipeline.splits import folds, read_split, split, write_split
from pipeline.storage import whole_folder, write_text
from pipeline.types import Dataset, Detections, ImageRecord


def convert_masks(
    products: Sequence[Path], output: Path, config: ConvertConfig, keep_going: bool = False
) -> dict[str, Any]:
    """Convert MVTec products into `output`; see annotations/README.md for what lies where.

    Returns counts, what was lost, and the faults that `keep_going` passed over.
    """
    record = RunRecord("convert-masks", config.model_dump(mode="json"))
    faults = Faults(keep_going)
    listed = read_mvtec(products, faults)
    if config.group_by:
        listed = group_by(listed, config.group_by)
    dataset, losses = _with_objects(_parted(listed, config), config, faults)
    with whole_folder(output, FILE) as folder:
        kept = _write(folder, dataset, config)
        _write_folds(folder, dataset, config)
        summary = {
            "output": str(output),
            **_counts(dataset),
            **losses,
            "pixels_in_coco": _pixels(read_coco(folder / "annotations" / "instances.json")),
            "yolo_segment_iou_mean": round(float(np.mean(kept)), 4) if kept else None,
            "yolo_segment_iou_min": round(min(kept), 4) if kept else None,
            "faults": [str(error) for error in faults.found],
        }
        record.write(folder, summary, fingerprint(products))
    return summary


def _parted(dataset: Dataset, config: ConvertConfig) -> Dataset:
    if config.split:
        parted = read_split(config.split, dataset)
    else:
        train = 1 - config.val - config.test
        shares = {"train": train, "test": config.test, "val": config.val}
        parted = split(dataset, shares, config.seed)
    named = (replace(r, file_name=f"{r.part}/{r.file_name}") for r in parted.records)
    return replace(parted, records=tuple(named))


def _with_objects(
    dataset: Dataset, config: ConvertConfig, faults: Faults
) -> tuple[Dataset, dict[str, Any]]:
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    specks = pixels = 0
    empty: list[str] = []
    for record, mask in read_defect_masks(dataset, faults):
        records.append(record)
        if mask is None:
            continue
        rles, dropped = mask_geometry.instances(
            mask, config.one_instance, config.min_area, config.bridge_gap
        )
        specks += dropped
        pixels += int(mask.sum())
        if not rles:
            empty.append(str(record.path))
        label = dataset.categories.index(record.defect)
        objects[record.id] = Detections.from_masks(rles, label)
    losses = {
        "specks_dropped": specks,
        "pixels_in_masks": pixels,
        "defect_images_without_instance": empty,
    }
    return Dataset(dataset.categories, tuple(records), objects), losses


def _write(folder: Path, dataset: Dataset, config: ConvertConfig) -> list[float]:
    """Write every format; returns the IoU that each YOLO polygon keeps."""
    write_coco(folder / "annotations" / "instances.json", dataset)
    for part in sorted({record.part for record in dataset.records}):
        chosen = dataset.subset([r for r in dataset.records if r.part == part])
        write_coco(folder / "annotations" / f"instances_{part}.json", chosen)
    write_yolo(folder, dataset, copy_images=config.copy_images)
    kept = write_yolo(folder / "segment", dataset, segments=True, copy_images=config.copy_images)
    for record in track(dataset.records, "write PNG masks"):
        if len(dataset.on(record)):
            write_png_mask(folder / "masks", record, dataset.on(record))
    write_split(folder / "split.json", dataset)
    return kept


def _write_folds(folder: Path, dataset: Dataset, config: ConvertConfig) -> None:
    """Cross-validation over all images but test's: lists and data.yaml for YOLO, JSON for COCO."""
    if not config.folds:
        return
    pool = [record for record in dataset.records if record.part != "test"]
    fold_of = folds(pool, config.folds, config.seed)
    for fold in range(config.folds):
        parts = parts_of([record for record in dataset.records if record.part == "test"])
        parts = {"test": parts["test"]} if "test" in parts else {}
        for name, chosen in (
            ("train", [r for r in pool if fold_of[r.group] != fold]),
            ("val", [r for r in pool if fold_of[r.group] == fold]),
        ):
            listing = f"fold{fold}_{name}.txt"
            write_text(folder / listing, "".join(f"./images/{r.file_name}\n" for r in chosen))
            parts[name] = listing
            coco = folder / "annotations" / f"instances_fold{fold}_{name}.json"
            write_coco(coco, dataset.subset(chosen))
        write_data_yaml(folder / f"data_fold{fold}.yaml", dataset.categories, parts)


def _pixels(dataset: Dataset) -> int:
    objects = (dataset.on(record) for record in dataset.records)
    return sum(mask_geometry.area(rle) for found in objects for rle in found.masks or ())


def _counts(dataset: Dataset) -> dict[str, Any]:
    parts: dict[str, dict[str, int]] = {}
    for record in dataset.records:
        row = parts.setdefault(record.part, {"images": 0, "good": 0, "instances": 0})
        row["images"] += 1
        row["good"] += record.mask_path is None
        row["instances"] += len(dataset.on(record))
    return {
        "images": len(dataset.records),
        "instances": sum(row["instances"] for row in parts.values()),
        "categories": list(dataset.categories),
        "parts": parts,
    }
