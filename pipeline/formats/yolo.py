"""YOLO's folders: images/<split>, labels/<split>, data.yaml; one label row per object.

A detection row is `label cx cy w h`, a segmentation row `label x1 y1 x2 y2 ...`, both in [0, 1].
Boxes are exact to 1e-6 of the side of the image. A polygon is one ring: seams connect it with
further parts and with holes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.errors import DataError
from pipeline.formats.data_yaml import LAYOUT, images_of, read_data_yaml
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.values import as_data_error, encode_stream, file_mode, refuse_far
from pipeline.geometry.boxes import xyxy_to_yolo, yolo_to_xyxy
from pipeline.geometry.masks import bounding_boxes, to_patch
from pipeline.geometry.patches import Patch
from pipeline.geometry.polygons import (
    Ring,
    best_centre_ring,
    draw_centres,
    draw_yolo,
    simplified,
    to_yolo,
)
from pipeline.io.images import read_size
from pipeline.io.read import read_text
from pipeline.io.write import place_file, write_text
from pipeline.types import SPLITS, Dataset, Detections, ImageRecord

_MAX_NUMBER = 1e4  # limit for a number in a row; inside the image, numbers are 0 to 1


def write_yolo(
    root: Path,
    dataset: Dataset,
    segments: bool = False,
    copy_images: bool = False,
    loss: float = 0.0,
) -> None:
    """Write labels, images (linked or copied) and data.yaml below `root`.

    segments: write polygons in place of boxes. loss: the share of IoU that a polygon may lose to
    have fewer vertices.
    """
    dataset.refuse_equal_stems()
    for record in dataset.records:
        write_yolo_image(root, record, dataset.on(record), segments, copy_images, loss)
    write_data_yaml(root / "data.yaml", dataset.categories, splits_of(dataset.records))


def write_yolo_image(
    root: Path,
    record: ImageRecord,
    objects: Detections,
    segments: bool,
    copy_images: bool,
    loss: float = 0.0,
) -> str:
    """Write one image and its label file; returns the text of the label file."""
    place_file(record.path, root / "images" / record.file_name, copy_images)
    rows = _segment_rows(record, objects, loss) if segments else _box_rows(record, objects)
    text = "".join(f"{row}\n" for row in rows)
    write_text(root / "labels" / Path(record.file_name).with_suffix(".txt"), text)
    return text


def read_yolo(source: Path, images: Path | None = None, allow_outside: bool = False) -> Dataset:
    """Read a data.yaml, or the folder that holds it, with the labels and images of its splits.

    A label file whose rows all have four numbers holds boxes. As in ultralytics, one longer row
    makes polygons of all rows of its file; a box becomes its four corners. images: the folder of
    images, in place of the folders in data.yaml. Raises DataError naming the file and the row at
    fault, and for images outside the folder of the dataset unless `allow_outside`.
    """
    path = source / "data.yaml" if source.is_dir() else source
    data = read_data_yaml(path)
    root = images.parent if images else data.root(path)
    folders = NamedFolders([images.parent if images else path.parent], allow_outside)
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    listed: set[Path] = set()
    for split in SPLITS:
        for image in images_of(path, root, data.places(split), folders):
            if image in listed:
                continue
            listed.add(image)
            folders.refuse_outside(image)
            height, width = read_size(image)
            with as_data_error(image, "", "rename it"):
                name = _inside_images(image)
                record = ImageRecord(len(records) + 1, image, name, height, width, split=split)
            records.append(record)
            label_file = label_file_of(image)
            if file_mode(label_file):
                text = read_text(label_file)
                with as_data_error(label_file, "", "correct or remove the row"):
                    objects[record.id] = parse_labels(text, record.size, len(data.names))
    if not records:
        raise DataError(path, "lists no image", LAYOUT)
    return Dataset(data.categories, tuple(records), objects)


def parse_labels(text: str, size: tuple[int, int], categories: int) -> Detections:
    """The objects of one label file: boxes, or polygons drawn by `fillPoly`, as in ultralytics.

    size: (height, width) of the image. categories: their number. Raises ValueError naming the row.
    """
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if not rows:
        return Detections.none()
    parsed = [_parse_row(row, number, categories) for number, row in enumerate(rows, start=1)]
    column = np.array([label for label, _ in parsed], dtype=np.int64)
    if all(len(values) == 4 for _, values in parsed):
        return Detections(yolo_to_xyxy(np.array([values for _, values in parsed]), *size), column)
    masks = encode_stream(_draw_rows((values for _, values in parsed), size), *size)
    return Detections(bounding_boxes(masks), column, masks=tuple(masks))


def _parse_row(
    row: Sequence[str], number: int, categories: int
) -> tuple[int, np.ndarray[Any, np.dtype[np.float64]]]:
    """The label of a row, and its other numbers."""
    try:
        label, values = float(row[0]), np.array(row[1:], dtype=np.float64)
    except ValueError:
        raise ValueError(f"row {number} is not all numbers") from None
    if not (label.is_integer() and 0 <= label < categories):
        raise ValueError(f"row {number} names label {label:g}, but there are {categories}")
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(f"row {number} has {len(values)} numbers: 4, or 6 and more, in pairs")
    if not (np.abs(values) <= _MAX_NUMBER).all():  # `not` is true of NaN too
        raise ValueError(f"row {number} has numbers far outside 0 to 1")
    return int(label), values


def _draw_rows(
    rows: Iterable[np.ndarray[Any, np.dtype[np.float64]]], size: tuple[int, int]
) -> Iterator[Patch]:
    height, width = size
    for number, values in enumerate(rows, start=1):
        ring = values.reshape(-1, 2) if len(values) > 4 else _corners(values)
        if ring.min() < 0 or ring.max() > 1:
            try:
                refuse_far(ring * np.array([width, height]), height, width)
            except ValueError as error:
                raise ValueError(f"row {number}: {error}") from None
        yield draw_yolo(ring, height, width)


def label_file_of(image: Path) -> Path:
    """The label file of an image in ultralytics: the last folder called `images` in its path
    becomes `labels`."""
    parts = list(image.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts) / f"{image.stem}.txt"


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


def _corners(box: np.ndarray[Any, np.dtype[np.float64]]) -> Ring:
    x, y, width, height = box
    x0, y0, x1, y1 = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def _inside_images(image: Path) -> str:
    """The name of an image below the last folder called `images`, else its bare name."""
    parts = image.parts
    if "images" not in parts[:-1]:
        return image.name
    last = len(parts) - 1 - parts[::-1].index("images")
    return "/".join(parts[last + 1 :])
