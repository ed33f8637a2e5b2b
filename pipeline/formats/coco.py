"""COCO instances: boxes as x, y, width, height; masks as compressed RLE, which loses nothing, or as
polygons for a tool that edits them.

Ids count from 1 and `iscrowd` is 0: COCOeval takes an id of 0 for "no match", and ignores objects
with an `iscrowd` of 1.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.coco_listing import read_listing
from pipeline.formats.coco_masks import segmentation_rle
from pipeline.formats.coco_reader import detections, read_annotations
from pipeline.formats.coco_rows import JsonRow, json_line, row_texts
from pipeline.formats.coco_schema import CocoRow, coco_rows, open_coco
from pipeline.formats.coco_stream import RowSpool, coco_writer, write_rows
from pipeline.formats.json_rows import JsonRows
from pipeline.formats.source import SourceLog
from pipeline.types import Dataset, Detections, ImageRecord

_IMAGE_KEYS = ("product", "source_split", "defect", "group", "split")


def image_text(record: ImageRecord, keys: JsonRow | None = None) -> str:
    """An image's entry as JSON, with other keys."""
    return json_line(_image(record) | (keys or {}))


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
        writer.add_rows(_rows_in_order(dataset, path.parent, loss))


def write_coco_results(path: Path, dataset: Dataset) -> None:
    """Write COCO's results format: a list of annotations with scores, for `COCO.loadRes`.

    The score of an object without one is 1.
    """
    write_rows(path, map(result_text, _rows_in_order(dataset, path.parent)))


def _rows_in_order(dataset: Dataset, folder: Path, loss: float | None = None) -> Iterator[str]:
    """The annotations of all images, by the ids of the annotations whose boxes they were segmented
    from, where they have these; others count as 0. folder: for texts that wait for their place."""
    if all(dataset.on(record).prompt_ids is None for record in dataset.records):
        for record in dataset.records:
            yield from row_texts(record, dataset.on(record), loss)
        return
    prompt_ids = array("q")
    with RowSpool(folder) as spool:
        for record in dataset.records:
            objects = dataset.on(record)
            own = [0] * len(objects) if objects.prompt_ids is None else objects.prompt_ids.tolist()
            prompt_ids.extend(own)
            spool.add(row_texts(record, objects, loss))
        order = np.argsort(np.asarray(prompt_ids, np.int64), kind="stable")
        yield from map(spool.text, order)


def result_text(row: str) -> str:
    """One row of `row_texts` as a row of COCO's results."""
    keys = ("image_id", "category_id", "bbox", "segmentation", "score")
    scored: JsonRow = {"score": 1, **json.loads(row)}
    return json_line({key: scored[key] for key in keys if key in scored})


def read_coco_results(
    path: Path,
    listing: Path,
    images: Path | None = None,
    log: SourceLog | None = None,
    exact: bool = False,
) -> Dataset:
    """Read COCO results, with the images and categories of the instances file `listing`.

    An image is named by its id, or by its file name with or without suffix, as ultralytics does.
    images: the folder that file names are relative to; without it, the folder of `listing`. exact:
    as in `read_coco`. Raises DataError as `read_coco` does.
    """
    rows, raw = JsonRows(path), open_coco(listing, ("images", "categories"))
    if not rows.is_list:
        raise DataError(path, "is not COCO results JSON", "it needs a list of annotations")
    numbered = (
        {"id": number, **row} if isinstance(row, dict) else row
        for number, row in enumerate(rows.rows(), start=1)
    )
    log = log or SourceLog()
    listed = read_listing(listing, raw, images, log).by_name()
    return read_annotations(path, numbered, listed, log, exact)


def read_coco(
    path: Path, images: Path | None = None, log: SourceLog | None = None, exact: bool = False
) -> Dataset:
    """Read COCO instances.

    images: the folder that file names are relative to; without it, the folder of `path`. Polygons
    and uncompressed RLE become RLE, by pycocotools. A box among masks becomes a filled mask. Labels
    are in the order of the category ids. Keys beyond COCO's that every annotation of an image has
    as numbers become columns, see `coco_columns`. What is outside of its image is clipped; what has
    no pixel in it is left out. log: counts every annotation. exact: nothing is clipped or left out
    for its pixels, and `iscrowd` is a column, as COCOeval has it. Raises DataError naming the file
    and the id that is at fault.
    """
    raw, log = open_coco(path), log or SourceLog()
    listing = read_listing(path, raw, images, log)
    if not raw.has("annotations"):
        log.note(f"{path.name} has no list of annotations: its images have no object")
    return read_annotations(path, coco_rows(raw, "annotations"), listing, log, exact)


def images_beside(path: Path) -> Path | None:
    """The folder `images` beside a COCO file, or beside its folder, or `data` beside FiftyOne's
    labels.json, if there is one."""
    folders = [path.parent / "images", path.parent.parent / "images"]
    folders += [path.parent / "data"] * (path.name == "labels.json")
    return next((folder for folder in folders if folder.is_dir()), None)


def _image(record: ImageRecord) -> JsonRow:
    entry: JsonRow = {
        "id": record.id,
        "file_name": record.file_name,
        "height": record.height,
        "width": record.width,
    }
    return entry | {key: value for key in _IMAGE_KEYS if (value := getattr(record, key))}
