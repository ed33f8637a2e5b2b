"""COCO instances: boxes as x, y, width, height; masks as compressed RLE, which loses nothing, or as
polygons for a tool that edits them.

Ids count from 1 and `iscrowd` is 0: COCOeval takes an id of 0 for "no match", and ignores objects
with an `iscrowd` of 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.formats.coco_columns import json_number, written_columns
from pipeline.formats.coco_masks import segmentation_rle
from pipeline.formats.coco_reader import detections, read_annotations, read_listing
from pipeline.formats.coco_schema import (
    CocoRow,
    open_coco,
)
from pipeline.formats.coco_stream import coco_writer, write_rows
from pipeline.formats.json_rows import JsonRows
from pipeline.formats.source import SourceLog
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import xyxy_to_xywh
from pipeline.geometry.masks import Rle, to_patch
from pipeline.geometry.polygons import coco_rings, draw_coco, patch_iou, simplified
from pipeline.types import Dataset, Detections, ImageRecord

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
    return detections(rows, {label + 1: label for label in range(categories)}, size)


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


def read_coco_results(
    path: Path, listing: Path, images: Path | None = None, log: SourceLog | None = None
) -> Dataset:
    """Read COCO results, with the images and categories of the instances file `listing`.

    An image is named by its id, or by its file name with or without suffix, as ultralytics does.
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
    log = log or SourceLog()
    return read_annotations(path, numbered, read_listing(listing, raw, images, log).by_name(), log)


def read_coco(path: Path, images: Path | None = None, log: SourceLog | None = None) -> Dataset:
    """Read COCO instances.

    images: the folder that file names are relative to; without it, the folder of `path`. Polygons
    and uncompressed RLE become RLE, by pycocotools. A box among masks becomes a filled mask. Labels
    are in the order of the category ids. Keys beyond COCO's that every annotation of an image has
    as numbers become columns, see `coco_columns`. log: counts every annotation. Raises DataError
    naming the file and the id that is at fault.
    """
    raw, log = open_coco(path), log or SourceLog()
    listing = read_listing(path, raw, images, log)
    return read_annotations(path, raw.rows("annotations"), listing, log)


def images_beside(path: Path) -> Path | None:
    """The folder `images` beside a COCO file, or beside its folder, if there is one."""
    folders = (path.parent / "images", path.parent.parent / "images")
    return next((folder for folder in folders if folder.is_dir()), None)


def _image(record: ImageRecord) -> JsonRow:
    entry: JsonRow = {
        "id": record.id,
        "file_name": record.file_name,
        "height": record.height,
        "width": record.width,
    }
    return entry | {key: value for key in _IMAGE_KEYS if (value := getattr(record, key))}


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
