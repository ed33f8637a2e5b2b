"""YOLO's folders: images/<part>, labels/<part>, data.yaml; one label row per object.

A detection row is `label cx cy w h`, a segmentation row `label x1 y1 x2 y2 ...`, both in [0, 1].
Boxes are exact to 1e-6 of the image's side. A polygon has no holes: what that loses is measured by
drawing it back as ultralytics does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import xyxy_to_yolo
from pipeline.geometry.polygons import draw_yolo, pixel_centre_ring, to_yolo
from pipeline.storage import place_file, write_text
from pipeline.types import Dataset, Detections, ImageRecord


def write_yolo(
    root: Path, dataset: Dataset, segments: bool = False, copy_images: bool = False
) -> list[float]:
    """Write labels, images (linked, or copied) and data.yaml below `root`.

    Returns, for `segments`, the IoU in [0, 1] that each object keeps when its polygon is drawn
    back, in the order of records and rows; an empty list for boxes, which are exact.
    """
    kept: list[float] = []
    for record in dataset.records:
        place_file(record.path, root / "images" / record.file_name, copy_images)
        rows, ious = _rows(record, dataset.on(record), segments)
        kept += ious
        label_file = root / "labels" / Path(record.file_name).with_suffix(".txt")
        write_text(label_file, "".join(f"{row}\n" for row in rows))
    write_data_yaml(root / "data.yaml", dataset.categories, parts_of(dataset.records))
    return kept


def parts_of(records: Sequence[ImageRecord]) -> dict[str, str]:
    """`data.yaml`'s entry for each part that has images; without val, test or train serves."""
    present = {record.part for record in records}
    parts = {part: f"images/{part}" for part in ("train", "val", "test") if part in present}
    stand_in = parts.get("test") or parts.get("train") or "images"
    return {"train": parts.get("train", stand_in), "val": parts.get("val", stand_in)} | parts


def write_data_yaml(path: Path, categories: Sequence[str], parts: dict[str, str]) -> None:
    """Write ultralytics' data.yaml; without `path`, its entries are relative to the file."""
    content = {**parts, "names": dict(enumerate(categories)), "nc": len(categories)}
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _rows(
    record: ImageRecord, objects: Detections, segments: bool
) -> tuple[list[str], list[float]]:
    if not segments:
        boxes = xyxy_to_yolo(objects.boxes, *record.size)
        return [_row(label, box) for label, box in zip(objects.labels, boxes, strict=True)], []
    rows, ious = [], []
    for label, rle in zip(objects.labels, objects.masks or (), strict=True):
        ring = to_yolo(pixel_centre_ring(mask_geometry.decode(rle)), *record.size)
        rows.append(_row(label, ring.ravel()))
        drawn = mask_geometry.encode(draw_yolo(ring, *record.size))
        ious.append(mask_geometry.paired_iou(drawn, rle))
    return rows, ious


def _row(label: object, values: Iterable[float]) -> str:
    return " ".join([str(label), *(f"{value:.6f}" for value in values)])
