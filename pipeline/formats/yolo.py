"""YOLO's folders: images/<part>, labels/<part>, data.yaml; one label row per object.

A detection row is `label cx cy w h`, a segmentation row `label x1 y1 x2 y2 ...`, both in [0, 1].
Boxes are exact to 1e-6 of the image's side. A polygon is one ring: parts and holes hang on seams.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.errors import DataError
from pipeline.geometry.boxes import xyxy_to_yolo, yolo_to_xyxy
from pipeline.geometry.masks import bounding_boxes, encode_patches, to_patch
from pipeline.geometry.patches import Patch
from pipeline.geometry.polygons import (
    Ring,
    best_centre_ring,
    draw_centres,
    draw_yolo,
    simplified,
    to_yolo,
)
from pipeline.images import list_images, read_size
from pipeline.io.write import place_file, write_text
from pipeline.types import PARTS, Dataset, Detections, ImageRecord

_LAYOUT = "expected data.yaml with `names` and the folders of images"


def write_yolo(
    root: Path,
    dataset: Dataset,
    segments: bool = False,
    copy_images: bool = False,
    loss: float = 0.0,
) -> None:
    """Write labels, images (linked, or copied) and data.yaml below `root`.

    loss: the share of IoU that a polygon may lose to having fewer vertices.
    """
    dataset.refuse_equal_stems()
    for record in dataset.records:
        write_yolo_image(root, record, dataset.on(record), segments, copy_images, loss)
    write_data_yaml(root / "data.yaml", dataset.categories, parts_of(dataset.records))


def write_yolo_image(
    root: Path,
    record: ImageRecord,
    objects: Detections,
    segments: bool,
    copy_images: bool,
    loss: float = 0.0,
) -> str:
    """Write one image's part of a set; returns the text of its labels."""
    place_file(record.path, root / "images" / record.file_name, copy_images)
    rows = _segment_rows(record, objects, loss) if segments else _box_rows(record, objects)
    text = "".join(f"{row}\n" for row in rows)
    write_text(root / "labels" / Path(record.file_name).with_suffix(".txt"), text)
    return text


def read_yolo(source: Path, images: Path | None = None) -> Dataset:
    """Read a set by its data.yaml, or by the folder that holds one; parts become `part`.

    A file whose rows all have four numbers holds boxes. As in ultralytics, one longer row makes
    all rows of its file polygons, a box being its four corners. Raises DataError naming the file
    and the row at fault. images: where the images are, in place of data.yaml's own word.
    """
    path = source / "data.yaml" if source.is_dir() else source
    described = read_data_yaml(path)
    names = described["names"]
    entries = [names[key] for key in sorted(names)] if isinstance(names, dict) else list(names)
    root = images.parent if images else path.parent / str(described.get("path") or "")
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    seen: set[Path] = set()
    for part in PARTS:
        for image in images_of(path, root, described.get(part)):
            if image in seen:
                continue
            seen.add(image)
            name = _inside_images(image)
            height, width = read_size(image)
            record = ImageRecord(len(records) + 1, image, name, height, width, part=part)
            records.append(record)
            label_file = label_file_of(image)
            if label_file.is_file():
                text = label_file.read_text(encoding="utf-8")
                try:
                    objects[record.id] = parse_labels(text, record.size, len(entries))
                except ValueError as error:
                    raise DataError(label_file, str(error), "mend or remove the row") from error
    if not records:
        raise DataError(path, "lists no image", _LAYOUT)
    return Dataset(tuple(str(name) for name in entries), tuple(records), objects)


def parse_labels(text: str, size: tuple[int, int], categories: int) -> Detections:
    """The objects of one label file, as ultralytics reads it: boxes, or polygons drawn by
    `fillPoly`. Raises ValueError that names the row."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if not rows:
        return Detections.none()
    labels, points = [], []
    for number, row in enumerate(rows, start=1):
        try:
            label, values = int(float(row[0])), np.array(row[1:], dtype=np.float64)
        except ValueError:
            raise ValueError(f"row {number} is not all numbers") from None
        if not 0 <= label < categories:
            raise ValueError(f"row {number} names label {label}, but there are {categories}")
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            raise ValueError(f"row {number} has {len(values)} numbers: 4, or 6 and more, in pairs")
        labels.append(label)
        points.append(values)
    column = np.array(labels, dtype=np.int64)
    if all(len(values) == 4 for values in points):
        return Detections(yolo_to_xyxy(np.array(points), *size), column)
    rings = [v.reshape(-1, 2) if len(v) > 4 else _corners(v) for v in points]
    masks = encode_patches([draw_yolo(ring, *size) for ring in rings], *size)
    return Detections(bounding_boxes(masks), column, masks=tuple(masks))


def label_file_of(image: Path) -> Path:
    """Where ultralytics looks for an image's labels: its last `images` folder becomes `labels`."""
    parts = list(image.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts) / f"{image.stem}.txt"


def parts_of(records: Sequence[ImageRecord]) -> dict[str, str]:
    """`data.yaml`'s entry for each part that has images; without val, test or train serves."""
    present = {record.part for record in records}
    parts = {part: f"images/{part}" for part in PARTS if part in present}
    if not all(r.file_name.startswith(f"{r.part}/") for r in records if r.part):
        parts = {}  # not sorted into folders: one set of all
    stand_in = parts.get("test") or parts.get("train") or "images"
    return {"train": parts.get("train", stand_in), "val": parts.get("val", stand_in)} | parts


def write_data_yaml(path: Path, categories: Sequence[str], parts: Mapping[str, str]) -> None:
    """Write ultralytics' data.yaml; without `path`, its entries are relative to the file."""
    content = {**parts, "names": dict(enumerate(categories)), "nc": len(categories)}
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _box_rows(record: ImageRecord, objects: Detections) -> list[str]:
    boxes = xyxy_to_yolo(objects.boxes, *record.size)
    return [_row(label, box) for label, box in zip(objects.labels, boxes, strict=True)]


def _segment_rows(record: ImageRecord, objects: Detections, loss: float) -> list[str]:
    """A row for each object that has a pixel; ultralytics refuses a row without polygon."""
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


def read_data_yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(path, "no such file", _LAYOUT) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(path, "is not readable YAML", _LAYOUT) from error
    if not isinstance(found, dict) or not found.get("names"):
        raise DataError(path, "names no categories", _LAYOUT)
    return found


def images_of(data: Path, root: Path, entry: Any) -> list[Path]:
    """The images that one entry of data.yaml stands for: folders, or a list in a text file."""
    found: list[Path] = []
    for name in entry if isinstance(entry, list) else [entry] if entry else []:
        place = root / str(name)
        if place.is_dir():
            folders = [place, *sorted(p for p in place.rglob("*") if p.is_dir())]
            found += [image for folder in folders for image in list_images(folder)]
        elif place.is_file():
            lines = place.read_text(encoding="utf-8").split("\n")
            found += [place.parent / line.strip() for line in lines if line.strip()]
        else:
            raise DataError(data, f"names {place}, which does not exist", _LAYOUT)
    return found


def _inside_images(image: Path) -> str:
    """An image's name inside the last folder called `images`, else its bare name."""
    parts = image.parts
    if "images" not in parts[:-1]:
        return image.name
    last = len(parts) - 1 - parts[::-1].index("images")
    return "/".join(parts[last + 1 :])
