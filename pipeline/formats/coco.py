"""COCO instances: boxes as x, y, width, height; masks as compressed RLE, which loses nothing, or as
polygons for a tool that edits them.

Ids count from 1 and `iscrowd` is 0: COCOeval takes an id of 0 for "no match", and ignores objects
with an `iscrowd` of 1.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.formats.coco_columns import json_number, read_columns, written_columns
from pipeline.formats.coco_masks import segmentation_rle
from pipeline.formats.coco_schema import (
    CocoImage,
    CocoRow,
    coco_categories,
    coco_images,
    coco_rows,
    open_coco,
    place_of,
)
from pipeline.formats.coco_stream import coco_writer, write_rows
from pipeline.formats.json_rows import JsonRows
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes, xywh_to_xyxy, xyxy_to_xywh
from pipeline.geometry.masks import Rle, to_patch
from pipeline.geometry.polygons import coco_rings, draw_coco, patch_iou, simplified
from pipeline.types import GOOD, Dataset, Detections, ImageRecord

_IMAGE_KEYS = ("product", "source_split", "defect", "group", "split")

JsonRow = dict[str, JsonValue]  # an image's entry, or an annotation


def image_text(record: ImageRecord) -> str:
    """An image's entry as JSON."""
    return _text(_image(record))


def row_texts(record: ImageRecord, objects: Detections, loss: float | None = None) -> list[str]:
    """An image's annotations as JSON texts without ids, for `CocoWriter`.

    loss: None writes RLE. A number writes polygons, simplified to lose at most this share of IoU,
    and RLE for an object whose polygons would lose more.
    """
    return [_text(row) for row in _annotations(record, objects, loss)]


def parse_row_texts(texts: Sequence[str], size: tuple[int, int], categories: int) -> Detections:
    """The objects that pycocotools reads from what `row_texts` wrote. categories: their number."""
    rows: list[CocoRow] = [json.loads(text) for text in texts]
    if not rows:
        return Detections.none()
    for row in rows:
        if segmentation := row.get("segmentation"):
            row["segmentation"] = segmentation_rle(segmentation, size)
    return _detections(rows, {label + 1: label for label in range(categories)})


def write_coco(path: Path, dataset: Dataset, loss: float | None = None) -> None:
    """Write COCO instances JSON. Images without objects stay listed.

    Annotations are in the order of the images, or, where they have prompt ids, in the order of
    those. loss: as in `row_texts`. Raises DataError when the file cannot be written.
    """
    with coco_writer(path, dataset.categories) as writer:
        for record in dataset.records:
            writer.add_image(image_text(record))
        rows = (row for r in dataset.records for row in _annotations(r, dataset.on(r), loss))
        if any(dataset.on(record).prompt_ids is not None for record in dataset.records):
            writer.add_rows(map(_text, sorted(rows, key=_prompt_id)))
        else:
            writer.add_rows(map(_text, rows))


def write_coco_results(path: Path, dataset: Dataset) -> None:
    """Write COCO's results format: a list of annotations with scores, for `COCO.loadRes`.

    The score of an object without one is 1.
    """
    rows = [row for r in dataset.records for row in _annotations(r, dataset.on(r))]
    rows.sort(key=_prompt_id)
    write_rows(path, (result_text(_text(row)) for row in rows))


def _prompt_id(row: JsonRow) -> int:
    """The id of the annotation whose box a row was segmented from; 0 for a row without one."""
    prompt = row.get("prompt_id")
    return int(prompt) if isinstance(prompt, (int, float)) else 0


def result_text(row: str) -> str:
    """One row of `row_texts` as a row of COCO's results."""
    keys = ("image_id", "category_id", "bbox", "segmentation", "score")
    scored: JsonRow = {"score": 1, **json.loads(row)}
    return _text({key: scored[key] for key in keys if key in scored})


def read_coco_results(path: Path, listing: Path, images: Path | None = None) -> Dataset:
    """Read COCO results, with the images and categories of the instances file `listing`.

    images: the folder that file names are relative to; without it, the folder of `listing`. Raises
    DataError as `read_coco` does.
    """
    rows, raw = JsonRows(path), open_coco(listing, ("images", "categories"))
    if not rows.is_list:
        raise DataError(path, "is not COCO results JSON", "it needs a list of annotations")
    numbered = (
        {"id": number, **row} if isinstance(row, dict) else row
        for number, row in enumerate(rows.rows(), start=1)
    )
    return _parsed(path, numbered, _listed(listing, raw, images or listing.parent))


def read_coco(path: Path, images: Path | None = None) -> Dataset:
    """Read COCO instances.

    images: the folder that file names are relative to; without it, the folder of `path`. Polygons
    and uncompressed RLE become RLE, by pycocotools. Labels are in the order of the category ids.
    Keys beyond COCO's that every annotation of an image has as numbers become columns, see
    `coco_columns`. Raises DataError naming the file and the id that is at fault.
    """
    raw = open_coco(path)
    return _parsed(path, raw.rows("annotations"), _listed(path, raw, images or path.parent))


def images_beside(path: Path) -> Path | None:
    """The folder `images` beside a COCO file, or beside its folder, if there is one."""
    folders = (path.parent / "images", path.parent.parent / "images")
    return next((folder for folder in folders if folder.is_dir()), None)


@dataclass(frozen=True)
class _Listed:
    """The images and categories that the annotations of a file refer to."""

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


def _parsed(path: Path, rows: Iterator[JsonValue], listed: _Listed) -> Dataset:
    sizes = {record.id: record.size for record in listed.records}
    by_image: dict[int, list[CocoRow]] = defaultdict(list)
    for number, row in enumerate(coco_rows(path, rows), start=1):
        size = sizes.get(row["image_id"])
        if size is None or row["category_id"] not in listed.label_of:
            where = place_of("annotation", row, number)
            reason = f"{where} names image {row['image_id']} or category {row['category_id']}"
            raise DataError(path, f"{reason}, which the file does not hold", "remove it")
        if segmentation := row.get("segmentation"):  # at once: text is longer than RLE
            try:
                row["segmentation"] = segmentation_rle(segmentation, size)
            except ValueError as error:
                where = place_of("annotation", row, number)
                remedy = "correct it; pipeline validate names all such faults"
                raise DataError(path, f"{where}: {error}", remedy) from error
        by_image[row["image_id"]].append(row)
    objects = {}
    for image in list(by_image):
        try:
            objects[image] = _detections(by_image.pop(image), listed.label_of)
        except ValueError as error:
            raise DataError(path, f"image {image}: {error}", "correct its annotations") from error
    return Dataset(listed.categories, listed.records, objects)


def _image(record: ImageRecord) -> JsonRow:
    entry: JsonRow = {
        "id": record.id,
        "file_name": record.file_name,
        "height": record.height,
        "width": record.width,
    }
    return entry | {key: value for key in _IMAGE_KEYS if (value := getattr(record, key))}


def _record(path: Path, entry: CocoImage, images: Path) -> ImageRecord:
    name = entry["file_name"]
    whole = Path(name)
    if whole.is_absolute() and whole.is_relative_to(images.resolve()):  # as some tools write them
        name = whole.relative_to(images.resolve()).as_posix()
    defect = entry.get("defect")
    split, source_split = entry.get("split"), entry.get("source_split")
    if "part" in entry:  # 0.7 wrote `part` for the split, and `split` for the split of the source
        split, source_split = entry["part"], entry.get("split")
    try:
        return ImageRecord(
            entry["id"], images / name, name, entry["height"], entry["width"],
            product=entry.get("product") or "",
            source_split=source_split or "",
            defect=GOOD if defect is None else defect,
            group=entry.get("group") or "",
            split=split or "",
        )  # fmt: skip
    except ValueError as error:
        raise DataError(
            path, f"image {entry['id']}: {error}", "name files below --images"
        ) from error


def _annotations(
    record: ImageRecord, objects: Detections, loss: float | None = None
) -> list[JsonRow]:
    rows = []
    boxes = xyxy_to_xywh(objects.boxes)
    columns = written_columns(objects)
    for index in range(len(objects)):
        row: JsonRow = {
            "image_id": record.id,
            "category_id": int(objects.labels[index]) + 1,
            "bbox": [json_number(value) for value in boxes[index]],
            "area": json_number(boxes[index, 2] * boxes[index, 3]),
            "iscrowd": 0,
        }
        if objects.masks is not None:
            row["segmentation"] = _segmentation(objects.masks[index], loss)
            row["area"] = mask_geometry.area(objects.masks[index])  # one by one: 256 fail at once
        if objects.scores is not None:
            row["score"] = json_number(objects.scores[index], 6)
        for name, column in columns.items():
            row[name] = column[index]
        rows.append(row)
    return rows


def _segmentation(rle: Rle, loss: float | None) -> JsonValue:
    if loss is not None:
        patch = to_patch(rle)
        draw = partial(draw_coco, height=rle["size"][0], width=rle["size"][1])
        rings = simplified(coco_rings(patch), patch, draw, loss)
        if rings and patch_iou(patch, draw(rings)) >= 1 - loss:
            return [[json_number(value) for value in ring.ravel()] for ring in rings]
    return {"size": [*rle["size"]], "counts": rle["counts"].decode("ascii")}


def _text(value: JsonRow) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _detections(rows: Sequence[CocoRow], label_of: Mapping[int, int]) -> Detections:
    """The objects of one image from its rows, whose segmentations are RLE. Raises ValueError naming
    a key."""
    masks = tuple(cast(Rle, row["segmentation"]) for row in rows if row.get("segmentation"))
    scored = all("score" in row for row in rows)
    columns = read_columns(rows)
    return Detections(
        boxes=xywh_to_xyxy(as_boxes([row["bbox"] for row in rows])),
        labels=np.array([label_of[row["category_id"]] for row in rows], dtype=np.int64),
        scores=np.array([row["score"] for row in rows], dtype=np.float32) if scored else None,
        masks=masks if len(masks) == len(rows) else None,
        quality=columns.quality,
        failed=columns.failed,
        ids=columns.ids,
        prompt_ids=columns.prompt_ids,
        prompt_boxes=columns.prompt_boxes,
        attributes=columns.attributes,
    )
