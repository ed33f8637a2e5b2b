"""COCO instances: boxes as x, y, width, height; masks as compressed RLE, which loses nothing, or as
polygons where a tool wants to edit them.

Ids count from 1 and `iscrowd` is 0: COCOeval reads 0 and 1 there as "no match" and "ignore".
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.formats.coco_masks import segmentation_rle
from pipeline.formats.coco_schema import (
    CocoImage,
    CocoRow,
    coco_categories,
    coco_images,
    coco_rows,
    open_coco,
    place_of,
    quality_column,
)
from pipeline.formats.coco_stream import coco_writer, write_rows
from pipeline.formats.json_rows import JsonRows
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes, xywh_to_xyxy, xyxy_to_xywh
from pipeline.geometry.masks import Rle, to_patch
from pipeline.geometry.polygons import coco_rings, draw_coco, patch_iou, simplified
from pipeline.io.read import shown_value
from pipeline.types import Dataset, Detections, ImageRecord

_IMAGE_KEYS = ("product", "source_split", "defect", "group", "split")
_STANDARD = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "score"}


def image_text(record: ImageRecord) -> str:
    """An image's entry as JSON."""
    return _text(_image(record))


def row_texts(record: ImageRecord, objects: Detections, loss: float | None = None) -> list[str]:
    """An image's annotations as JSON, without ids, as `CocoWriter` takes them.

    loss: None writes RLE; else polygons that lose at most this share of IoU to simplification, and
    RLE for an instance whose polygons would lose more.
    """
    return [_text(row) for row in _annotations(record, objects, loss)]


def parse_row_texts(texts: Sequence[str], size: tuple[int, int], categories: int) -> Detections:
    """What `row_texts` wrote, as pycocotools reads it."""
    rows = [json.loads(text) for text in texts]
    if not rows:
        return Detections.none()
    for row in rows:
        if segmentation := row.get("segmentation"):
            row["segmentation"] = segmentation_rle(segmentation, size)
    return _detections(rows, {label + 1: label for label in range(categories)})


def write_coco(path: Path, dataset: Dataset, loss: float | None = None) -> None:
    """Write COCO instances JSON; images without objects stay listed. Raises DataError when the
    system refuses.

    Annotations follow the images, or the prompts they answer, where they carry a `prompt_id`. For
    `loss`, see `row_texts`.
    """
    with coco_writer(path, dataset.categories) as writer:
        for record in dataset.records:
            writer.add_image(image_text(record))
        found = (row for r in dataset.records for row in _annotations(r, dataset.on(r), loss))
        if any("prompt_id" in dataset.on(record).quality for record in dataset.records):
            writer.add_rows(map(_text, sorted(found, key=_prompt)))
        else:
            writer.add_rows(map(_text, found))


def write_coco_results(path: Path, dataset: Dataset) -> None:
    """Write COCO's results format: a list of scored annotations, as `COCO.loadRes` reads it.

    An object without a score is taken as certain (1.0).
    """
    rows = [row for r in dataset.records for row in _annotations(r, dataset.on(r))]
    rows.sort(key=_prompt)
    write_rows(path, (result_text(_text(row)) for row in rows))


def _prompt(row: Mapping[str, Any]) -> int:
    """The prompt that a row answers; 0 for a row, or a foreign column, without such."""
    prompt = row.get("prompt_id")
    return int(prompt) if isinstance(prompt, (int, float)) else 0


def result_text(row: str) -> str:
    """One row of `row_texts` as a row of COCO's results."""
    keys = ("image_id", "category_id", "bbox", "segmentation", "score")
    scored = {"score": 1, **json.loads(row)}
    return _text({key: scored[key] for key in keys if key in scored})


def read_coco_results(path: Path, listing: Path, images: Path | None = None) -> Dataset:
    """Read COCO results, with the images and categories of the instances file `listing`.

    Raises DataError as `read_coco` does.
    """
    rows, raw = JsonRows(path), open_coco(listing, ("images", "categories"))
    if not rows.is_list:
        raise DataError(path, "is not COCO results JSON", "it needs a list of annotations")
    numbered = (
        {"id": number, **row} if isinstance(row, dict) else row
        for number, row in enumerate(rows.rows(), start=1)
    )
    known = _listed(listing, raw, images or listing.parent)
    return _parsed(path, numbered, known)


def read_coco(path: Path, images: Path | None = None) -> Dataset:
    """Read COCO instances; `images` is the folder that file names are relative to.

    Polygons and uncompressed RLE are converted to RLE by pycocotools. Labels follow the order of
    category ids. Annotation ids, and keys beyond COCO's that every annotation of an image has as
    numbers, become quality columns. Raises DataError naming the file and the id that is at fault.
    """
    raw = open_coco(path)
    return _parsed(path, raw.rows("annotations"), _listed(path, raw, images or path.parent))


def images_beside(path: Path) -> Path | None:
    """The folder `images` beside a COCO file, or beside its folder, if there is one."""
    folders = (path.parent / "images", path.parent.parent / "images")
    return next((folder for folder in folders if folder.is_dir()), None)


@dataclass(frozen=True)
class _Listed:
    """What a file's annotations refer to."""

    categories: tuple[str, ...]
    label_of: Mapping[int, int]  # by category id
    records: tuple[ImageRecord, ...]


def _listed(path: Path, raw: JsonRows, images: Path) -> _Listed:
    categories = coco_categories(path, raw)
    records = tuple(_record(path, entry, images) for entry in coco_images(path, raw))
    if len({record.id for record in records}) != len(records):
        raise DataError(path, "has two images with one id", "number the images again")
    label_of = {entry["id"]: label for label, entry in enumerate(categories)}
    return _Listed(tuple(entry["name"] for entry in categories), label_of, records)


def _parsed(path: Path, rows: Iterator[Any], known: _Listed) -> Dataset:
    sizes = {record.id: record.size for record in known.records}
    by_image: dict[int, list[CocoRow]] = defaultdict(list)
    for number, row in enumerate(coco_rows(path, rows), start=1):
        size = sizes.get(row["image_id"])
        if size is None or row["category_id"] not in known.label_of:
            where = place_of("annotation", row, number)
            reason = f"{where} names image {row['image_id']} or category {row['category_id']}"
            raise DataError(path, f"{reason}, which the file does not hold", "remove it")
        if segmentation := row.get("segmentation"):  # at once: text is longer than RLE
            try:
                row["segmentation"] = segmentation_rle(segmentation, size)
            except ValueError as error:
                where = place_of("annotation", row, number)
                remedy = "mend it; pipeline validate names all such faults"
                raise DataError(path, f"{where}: {error}", remedy) from error
        by_image[row["image_id"]].append(row)
    objects = {}
    for image in list(by_image):
        try:
            objects[image] = _detections(by_image.pop(image), known.label_of)
        except ValueError as error:
            raise DataError(path, f"image {image}: {error}", "mend its annotations") from error
    return Dataset(known.categories, known.records, objects)


def _image(record: ImageRecord) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": record.id,
        "file_name": record.file_name,
        "height": record.height,
        "width": record.width,
    }
    return entry | {key: value for key in _IMAGE_KEYS if (value := getattr(record, key))}


def _record(path: Path, entry: CocoImage, images: Path) -> ImageRecord:
    given: Mapping[str, Any] = entry
    if "part" in given:  # as 0.7 named them
        given = {**given, "split": given["part"], "source_split": given.get("split")}
    extra = {key: given[key] for key in _IMAGE_KEYS if given.get(key) is not None}
    name = entry["file_name"]
    whole = Path(name)
    if whole.is_absolute() and whole.is_relative_to(images.resolve()):  # as some tools write them
        name = whole.relative_to(images.resolve()).as_posix()
    try:
        place = images / name
        return ImageRecord(entry["id"], place, name, entry["height"], entry["width"], **extra)
    except ValueError as error:
        raise DataError(
            path, f"image {entry['id']}: {error}", "name files below --images"
        ) from error


def _annotations(
    record: ImageRecord, objects: Detections, loss: float | None = None
) -> list[dict[str, Any]]:
    rows = []
    boxes = xyxy_to_xywh(objects.boxes)
    for index in range(len(objects)):
        row: dict[str, Any] = {
            "image_id": record.id,
            "category_id": int(objects.labels[index]) + 1,
            "bbox": [_number(value) for value in boxes[index]],
            "area": _number(boxes[index, 2] * boxes[index, 3]),
            "iscrowd": 0,
        }
        if objects.masks is not None:
            row["segmentation"] = _segmentation(objects.masks[index], loss)
            row["area"] = mask_geometry.area(objects.masks[index])  # one by one: 256 fail at once
        if objects.scores is not None:
            row["score"] = _number(objects.scores[index], 6)
        for name in objects.quality.keys() - {"annotation_id"}:
            column = objects.quality[name]
            value = column[index]
            row[name] = [_number(v) for v in value] if np.ndim(value) else _number(value, 6)
        rows.append(row)
    return rows


def _segmentation(rle: Rle, loss: float | None) -> Any:
    if loss is not None:
        patch = to_patch(rle)
        draw = partial(draw_coco, height=rle["size"][0], width=rle["size"][1])
        rings = simplified(coco_rings(patch), patch, draw, loss)
        if rings and patch_iou(patch, draw(rings)) >= 1 - loss:
            return [[_number(value) for value in ring.ravel()] for ring in rings]
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _number(value: Any, digits: int = 3) -> float | int | bool:
    """JSON's number for a numpy scalar: whole numbers without a point, others rounded."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    number = round(float(value), digits)
    return int(number) if number.is_integer() else number


def _detections(rows: Sequence[CocoRow], label_of: Mapping[int, int]) -> Detections:
    """An image's rows, whose segmentations are RLE. Raises ValueError naming a key."""
    masks = tuple(cast(Rle, row["segmentation"]) for row in rows if row.get("segmentation"))
    quality: dict[str, NDArray[np.generic]] = {}
    if all("id" in row for row in rows):
        quality["annotation_id"] = np.array([row["id"] for row in rows])
    for name in sorted(set.intersection(*(set(row) for row in rows)) - _STANDARD - quality.keys()):
        values: list[object] = [cast(Mapping[str, object], row)[name] for row in rows]
        try:
            column = quality_column(values)
        except ValueError as error:
            raise ValueError(f"{shown_value(name)} {error}") from error
        if column is not None:
            quality[name] = column
    scored = all("score" in row for row in rows)
    return Detections(
        boxes=xywh_to_xyxy(as_boxes([row["bbox"] for row in rows])),
        labels=np.array([label_of[row["category_id"]] for row in rows], dtype=np.int64),
        scores=np.array([row["score"] for row in rows], dtype=np.float32) if scored else None,
        masks=masks if len(masks) == len(rows) else None,
        quality=quality,
    )
