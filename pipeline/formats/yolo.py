"""YOLO's folders, written: images/<split>, labels/<split>, data.yaml; one label row per object.

A detection row is `label cx cy w h`, a segmentation row `label x1 y1 x2 y2 ...`, both in [0, 1].
Boxes are exact to 1e-6 of the side of the image. A polygon is one ring: seams connect it with
further parts and with holes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import yaml

from pipeline.geometry.boxes import xyxy_to_yolo
from pipeline.geometry.masks import to_patch
from pipeline.geometry.patches import Patch
from pipeline.geometry.polygons import (
    Ring,
    best_centre_ring,
    draw_centres,
    simplified,
    to_yolo,
)
from pipeline.io.image_copies import place_image
from pipeline.io.write import write_text
from pipeline.runtime.progress import say
from pipeline.types import SPLITS, Dataset, Detections, ImageRecord

UNSORTED = "unsorted"  # the key and the list of images without a split


def write_yolo(
    root: Path,
    dataset: Dataset,
    segments: bool = False,
    copy_images: bool = False,
    loss: float = 0.0,
) -> None:
    """Write labels, images (linked or copied) and data.yaml below `root`.

    Where every image has a split, it lies in the folder of its split. Where some have one, lists
    name the images of each, and unsorted.txt those of none. segments: write polygons in place of
    boxes. loss: the share of IoU that a polygon may lose to have fewer vertices.
    """
    dataset = replace(dataset, records=_by_split(dataset.records))
    dataset.refuse_equal_stems()
    for record in dataset.records:
        write_yolo_image(root, record, dataset.on(record), segments, copy_images, loss)
    splits = splits_of(dataset.records)
    if any(r.split in SPLITS for r in dataset.records) and not _all_have_split(dataset.records):
        splits = _write_lists(root, dataset.records)
    write_data_yaml(root / "data.yaml", dataset.categories, splits)


def _all_have_split(records: Sequence[ImageRecord]) -> bool:
    return all(record.split in SPLITS for record in records)


def _write_lists(root: Path, records: Sequence[ImageRecord]) -> dict[str, str]:
    """Write a list of the images of each split, and of those of none; the entries of data.yaml."""
    listed: dict[str, list[str]] = {}
    for record in records:
        split = record.split if record.split in SPLITS else UNSORTED
        listed.setdefault(split, []).append(f"./images/{record.file_name}\n")
    entries = {split: f"{split}.txt" for split in (*SPLITS, UNSORTED) if split in listed}
    for split, name in entries.items():
        write_text(root / name, "".join(listed[split]))
    say(f"{len(listed[UNSORTED])} of {len(records)} images are of no split: {UNSORTED}.txt lists "
        "them, and a training does not use them")  # fmt: skip
    other = entries.get("train") or entries.get("test") or entries["val"]
    return {"train": other, "val": entries.get("val", other)} | entries


def _by_split(records: Sequence[ImageRecord]) -> tuple[ImageRecord, ...]:
    """The images under names that begin with their split, if all have one."""
    if not _all_have_split(records):
        return tuple(records)
    return tuple(
        record
        if record.file_name.startswith(f"{record.split}/")
        else replace(record, file_name=f"{record.split}/{record.file_name}")
        for record in records
    )


def write_yolo_image(
    root: Path,
    record: ImageRecord,
    objects: Detections,
    segments: bool,
    copy_images: bool,
    loss: float = 0.0,
) -> str:
    """Write one image and its label file; returns the text of the label file."""
    place_image(record.path, root / "images" / record.file_name, copy_images)
    rows = _segment_rows(record, objects, loss) if segments else _box_rows(record, objects)
    text = "".join(f"{row}\n" for row in rows)
    write_text(root / "labels" / Path(record.file_name).with_suffix(".txt"), text)
    return text


def splits_of(records: Sequence[ImageRecord]) -> dict[str, str]:
    """The entries of a data.yaml: each split that has images, with its folder. Without val images,
    val is test, or else train; without train images, train is test."""
    present = {record.split for record in records}
    splits = {split: f"images/{split}" for split in SPLITS if split in present}
    if not all(r.file_name.startswith(f"{r.split}/") for r in records if r.split):
        splits = {}  # images that are not in folders by split: one split of all
    other = splits.get("test") or splits.get("train") or "images"
    return {"train": splits.get("train", other), "val": splits.get("val", other)} | splits


def write_data_yaml(path: Path, categories: Sequence[str], splits: Mapping[str, str]) -> None:
    """Write ultralytics' data.yaml. Without the key `path`, entries are relative to the file."""
    content = {**splits, "names": dict(enumerate(categories)), "nc": len(categories)}
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _box_rows(record: ImageRecord, objects: Detections) -> list[str]:
    boxes = xyxy_to_yolo(objects.boxes, *record.size)
    return [_row(label, box) for label, box in zip(objects.labels, boxes, strict=True)]


def _segment_rows(record: ImageRecord, objects: Detections, loss: float) -> list[str]:
    """One row for each object that has a pixel: ultralytics refuses a row without polygon."""
    draw = partial(_draw_rings, size=record.size)
    rows = []
    for label, rle in zip(objects.labels, objects.masks or (), strict=True):
        patch = to_patch(rle)
        if not patch.pixels.size:
            continue
        ring = simplified([best_centre_ring(patch, draw)], patch, draw, loss)[0]
        rows.append(_row(label, to_yolo(ring, *record.size).ravel()))
    return rows


def _draw_rings(rings: Sequence[Ring], size: tuple[int, int]) -> Patch:
    return draw_centres(rings[0], *size)


def _row(label: object, values: Iterable[float]) -> str:
    return " ".join([str(label), *(f"{value:.6f}" for value in values)])
