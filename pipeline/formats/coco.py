"""COCO instances: boxes as x, y, width, height; masks as compressed RLE, which loses nothing, or as
polygons where a tool wants to edit them.

Ids count from 1 and `iscrowd` is 0: COCOeval reads 0 and 1 there as "no match" and "ignore".
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.formats.coco_stream import coco_writer, write_rows
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes, xywh_to_xyxy, xyxy_to_xywh
from pipeline.geometry.masks import Rle, check_runs, to_patch
from pipeline.geometry.polygons import coco_rings, draw_coco, patch_iou, simplified
from pipeline.io.read import read_json
from pipeline.types import Dataset, Detections, ImageRecord

_IMAGE_KEYS = ("product", "split", "defect", "group", "part")
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
    return _detections(rows, {label + 1: label for label in range(categories)}, size)


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
            writer.add_rows(map(_text, sorted(found, key=lambda row: int(row["prompt_id"]))))
        else:
            writer.add_rows(map(_text, found))


def write_coco_results(path: Path, dataset: Dataset) -> None:
    """Write COCO's results format: a list of scored annotations, as `COCO.loadRes` reads it.

    An object without a score is taken as certain (1.0).
    """
    rows = [row for r in dataset.records for row in _annotations(r, dataset.on(r))]
    rows.sort(key=lambda row: int(row.get("prompt_id", 0)))
    write_rows(path, (result_text(_text(row)) for row in rows))


def result_text(row: str) -> str:
    """One row of `row_texts` as a row of COCO's results."""
    keys = ("image_id", "category_id", "bbox", "segmentation", "score")
    scored = {"score": 1, **json.loads(row)}
    return _text({key: scored[key] for key in keys if key in scored})


def read_coco_results(path: Path, listing: Path, images: Path | None = None) -> Dataset:
    """Read COCO results, with the images and categories of the instances file `listing`.

    Raises DataError as `read_coco` does.
    """
    rows, raw = read_json(path), read_json(listing)
    if not isinstance(rows, list) or not isinstance(raw, dict):
        raise DataError(path, "is not COCO results JSON", "it needs a list of annotations")
    numbered = [{"id": index + 1, **row} for index, row in enumerate(rows)]
    return _parsed(path, raw | {"annotations": numbered}, images or listing.parent)


def read_coco(path: Path, images: Path | None = None) -> Dataset:
    """Read COCO instances; `images` is the folder that file names are relative to.

    Polygons and uncompressed RLE are converted to RLE by pycocotools. Labels follow the order of
    category ids. Annotation ids, and keys beyond COCO's that every annotation of an image has as
    numbers, become quality columns. Raises DataError naming the file and the id that is at fault.
    """
    raw = read_json(path)
    if not isinstance(raw, dict) or not {"images", "annotations", "categories"} <= raw.keys():
        raise DataError(
            path, "is not COCO instances JSON", "it needs images, annotations, categories"
        )
    return _parsed(path, raw, images or path.parent)


def images_beside(path: Path) -> Path | None:
    """The folder `images` beside a COCO file, or beside its folder, if there is one."""
    folders = (path.parent / "images", path.parent.parent / "images")
    return next((folder for folder in folders if folder.is_dir()), None)


def _parsed(path: Path, raw: dict[str, Any], images: Path) -> Dataset:
    try:
        return _parse(path, raw, images)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise DataError(path, f"is not valid COCO ({reason})", "see COCO's data format") from error


def _parse(path: Path, raw: dict[str, Any], images: Path) -> Dataset:
    categories = sorted(raw["categories"], key=lambda entry: int(entry["id"]))
    label_of = {int(entry["id"]): label for label, entry in enumerate(categories)}
    records = tuple(_record(entry, images) for entry in raw["images"])
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    sizes = {record.id: record.size for record in records}
    if len(sizes) != len(records):
        raise DataError(path, "has two images with one id", "number the images anew")
    for row in raw["annotations"]:
        if int(row["image_id"]) not in sizes or int(row["category_id"]) not in label_of:
            raise DataError(
                path,
                f"annotation {row.get('id')} names image {row['image_id']} or category "
                f"{row['category_id']}, which the file does not hold",
                "remove it",
            )
        if not all(map(math.isfinite, row["bbox"])):
            reason = f"annotation {row.get('id')} has the box {row['bbox']}"
            raise DataError(path, reason, "mend it: pipeline validate --fix")
        by_image[int(row["image_id"])].append(row)
    objects = {key: _detections(rows, label_of, sizes[key]) for key, rows in by_image.items()}
    return Dataset(tuple(str(entry["name"]) for entry in categories), records, objects)


def _image(record: ImageRecord) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": record.id,
        "file_name": record.file_name,
        "height": record.height,
        "width": record.width,
    }
    return entry | {key: value for key in _IMAGE_KEYS if (value := getattr(record, key))}


def _record(entry: Mapping[str, Any], images: Path) -> ImageRecord:
    extra: dict[str, Any] = {key: str(entry[key]) for key in _IMAGE_KEYS if key in entry}
    name = str(entry["file_name"])
    whole = Path(name)
    if whole.is_absolute() and whole.is_relative_to(images.resolve()):  # as some tools write them
        name = whole.relative_to(images.resolve()).as_posix()
    return ImageRecord(
        int(entry["id"]), images / name, name, int(entry["height"]), int(entry["width"]), **extra
    )


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


def _detections(
    rows: list[dict[str, Any]], label_of: Mapping[int, int], size: tuple[int, int]
) -> Detections:
    masked = all(row.get("segmentation") for row in rows)
    extra = set.intersection(*(set(row) for row in rows)) - _STANDARD
    quality: dict[str, NDArray[np.generic]] = {}
    if all("id" in row for row in rows):
        quality["annotation_id"] = np.array([int(row["id"]) for row in rows])
    for name in sorted(extra):
        column = np.array([row[name] for row in rows])
        if column.dtype.kind in "biuf":
            quality[name] = column.astype(np.float32) if column.dtype.kind == "f" else column
    scored = all("score" in row for row in rows)
    return Detections(
        boxes=xywh_to_xyxy(as_boxes([row["bbox"] for row in rows])),
        labels=np.array([label_of[int(row["category_id"])] for row in rows], dtype=np.int64),
        scores=np.array([row["score"] for row in rows], dtype=np.float32) if scored else None,
        masks=tuple(segmentation_rle(row["segmentation"], size) for row in rows)
        if masked
        else None,
        quality=quality,
    )


def segmentation_rle(segmentation: Any, size: tuple[int, int]) -> Rle:
    """A polygon list, an uncompressed or a compressed RLE as RLE, by pycocotools. Raises ValueError
    for a mask of another size (height, width)."""
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, list):
        merged = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        merged = coco_mask.frPyObjects(segmentation, *size)
    else:
        counts = segmentation["counts"]
        merged = {
            "size": segmentation["size"],
            "counts": counts.encode("ascii") if isinstance(counts, str) else counts,
        }
        check_runs(merged["counts"], *merged["size"])
    if tuple(merged["size"]) != size:
        raise ValueError(f"a mask of size {merged['size']} on an image of size {list(size)}")
    return Rle(size=[int(side) for side in merged["size"]], counts=merged["counts"])
