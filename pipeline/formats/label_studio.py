"""Label Studio's JSON: brush strokes as run-length codes, rectangles in percent of the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

import numpy as np
from pydantic import JsonValue, TypeAdapter

from pipeline.errors import DataError
from pipeline.formats.image_files import refuse_false_size
from pipeline.formats.json_rows import JsonRows
from pipeline.formats.label_studio_schema import (
    ROW,
    TASK,
    Rectangle,
    Row,
    Task,
    label_of,
    results_of,
    size_of,
)
from pipeline.formats.rle_pack import decode_brush, encode_brush
from pipeline.formats.schema import Text, file_name
from pipeline.formats.text_stream import json_lines_list, text_file
from pipeline.formats.values import labels_by_name
from pipeline.geometry.boxes import as_boxes, xyxy_to_xywh
from pipeline.geometry.masks import bounding_boxes, decode, encode, from_box
from pipeline.io.read import checked, read_xml, shown_value
from pipeline.io.write import place_file, write_text
from pipeline.types import Dataset, Detections, ImageRecord

_FILE = "tasks.json"
_LOCAL = "/data/local-files/?d="
_LABEL = TypeAdapter(Text)

JsonObject = dict[str, JsonValue]


def write_label_studio(root: Path, dataset: Dataset, copy_images: bool = False) -> None:
    """Write tasks.json, label_config.xml for the labeling interface, and the images, which the
    tasks name as local files.

    Objects with an expected IoU or a score become predictions with that score; the score of a task
    is its lowest, to sort the tasks by. Other objects become annotations.
    """
    for record in dataset.records:
        place_file(record.path, root / "images" / record.file_name, copy_images)
    tasks = (_task(record, dataset.on(record), dataset.categories) for record in dataset.records)
    with text_file(root / _FILE) as file:
        file.writelines(json_lines_list(tasks))
        file.write("\n")
    write_text(root / "label_config.xml", _config(dataset.categories))


def _task(record: ImageRecord, objects: Detections, categories: Sequence[str]) -> JsonObject:
    results: list[JsonValue] = [
        _result(objects, row, categories, record) for row in range(len(objects))
    ]
    entry: JsonObject = {
        "id": record.id,
        "data": {"image": _LOCAL + quote(f"images/{record.file_name}"), "split": record.split},
        "size": [record.height, record.width],
    }
    if objects.confidence is not None and len(objects):
        lowest = round(float(objects.confidence.min()), 6)
        prediction: JsonObject = {
            "model_version": "pipeline", "score": lowest, "result": results,
        }  # fmt: skip
        return entry | {"predictions": [prediction]}
    return entry | {"annotations": [{"id": record.id, "result": results}]}


def read_label_studio(source: Path, images: Path | None = None) -> Dataset:
    """Read a JSON export, or the folder of tasks.json: brush strokes and rectangles.

    On an image with brush strokes, rectangles become filled masks. A task gives its first
    annotation, or its first prediction if it has no annotation. images: the folder of images;
    without it, `images` beside the file. Raises DataError.
    """
    path = source / _FILE if source.is_dir() else source
    raw = JsonRows(path)
    if not raw.is_list or not all(isinstance(t, dict) and "data" in t for t in raw.rows()):
        raise DataError(path, "is not Label Studio's JSON", "export as JSON, not JSON-MIN")
    categories = _categories(path.parent / "label_config.xml") or sorted(
        {label_of(row) for _, _, rows in _tasks(path, raw) for row in rows}
    )
    labels = labels_by_name(categories)
    records, objects = [], {}
    for number, (where, task, rows) in enumerate(_tasks(path, raw), start=1):
        try:
            name = file_name(_name(task["data"]["image"]))
            size = size_of(task, rows)
            place = (images or path.parent / "images") / name
            data = task["data"]
            split = data.get("split") or data.get("part") or ""  # `part`: as 0.7 wrote it
            records.append(ImageRecord(number, place, name, size[0], size[1], split=split))
            objects[number] = _parse(rows, labels, place, size)
        except ValueError as error:
            raise DataError(path, f"{where} cannot be read ({error})", "export it again") from error
    return Dataset(tuple(categories), tuple(records), objects)


def _tasks(path: Path, raw: JsonRows) -> Iterator[tuple[str, Task, list[Row]]]:
    """Each task with its place in the file and its results. Raises DataError."""
    for number, entry in enumerate(raw.rows(), start=1):
        key = entry.get("id") if isinstance(entry, dict) else None
        where = f"task {shown_value(key)}" if key is not None else f"task number {number}"
        task = checked(TASK, entry, path, where)
        yield where, task, [checked(ROW, row, path, where) for row in results_of(task)]


def _result(
    objects: Detections, row: int, categories: Sequence[str], record: ImageRecord
) -> JsonObject:
    name = categories[int(objects.labels[row])]
    common: JsonObject = {
        "id": f"{record.id}-{row + 1}",
        "to_name": "image",
        "original_width": record.width,
        "original_height": record.height,
        "image_rotation": 0,
    }
    if objects.confidence is not None:
        common["score"] = round(float(objects.confidence[row]), 6)
    if objects.masks is not None:
        code: list[JsonValue] = [*encode_brush(decode(objects.masks[row]))]
        value: JsonObject = {"format": "rle", "rle": code, "brushlabels": [name]}
        return common | {"type": "brushlabels", "from_name": "brush", "value": value}
    x, y, width, height = xyxy_to_xywh(objects.boxes[row : row + 1].astype(np.float64))[0].tolist()
    value = {
        "x": 100 * x / record.width,
        "y": 100 * y / record.height,
        "width": 100 * width / record.width,
        "height": 100 * height / record.height,
        "rotation": 0,
        "rectanglelabels": [name],
    }
    return common | {"type": "rectanglelabels", "from_name": "box", "value": value}


def _parse(
    rows: Sequence[Row], labels: Mapping[str, int], image: Path, size: tuple[int, int]
) -> Detections:
    if not rows:
        return Detections.none()
    for row in rows:
        if label_of(row) not in labels:
            raise ValueError(f"label {shown_value(label_of(row))} is not in label_config.xml")
    column = np.array([labels[label_of(row)] for row in rows], dtype=np.int64)
    scored = all("score" in row for row in rows)
    scores = np.array([row["score"] for row in rows], dtype=np.float32) if scored else None
    boxes = [None if row["type"] == "brushlabels" else _box(row["value"], size) for row in rows]
    if None not in boxes:
        return Detections(as_boxes([box for box in boxes if box]), column, scores)
    refuse_false_size(image, size)
    masks = tuple(
        encode(decode_brush(row["value"]["rle"], *size))
        if row["type"] == "brushlabels"
        else from_box(as_boxes([_box(row["value"], size)])[0], *size)
        for row in rows
    )
    return Detections(bounding_boxes(masks), column, scores, masks)


def _box(value: Rectangle, size: tuple[int, int]) -> list[float]:
    height, width = size
    if value.get("rotation"):
        raise ValueError("a rotated rectangle is not a box")
    x, y = value["x"] * width / 100, value["y"] * height / 100
    return [x, y, x + value["width"] * width / 100, y + value["height"] * height / 100]


def _name(image: str) -> str:
    """The name of an image: its path below `images` for a local file, the last part of a URL."""
    place = unquote(image.partition("?d=")[2])
    if not place:
        return unquote(image.rsplit("/", 1)[-1])
    _, folder, below = f"/{place}".rpartition("/images/")
    return below if folder else place


def _config(categories: Sequence[str]) -> str:
    labels = "".join(f"\n    <Label value={quoteattr(name)}/>" for name in categories)
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="brush" toName="image">{labels}\n  </BrushLabels>\n'
        f'  <RectangleLabels name="box" toName="image">{labels}\n  </RectangleLabels>\n</View>\n'
    )


def _categories(config: Path) -> list[str]:
    """The labels of a label_config.xml that `write_label_studio` wrote; none without the file."""
    if not config.is_file():
        return []
    names = [label.get("value", "") for label in read_xml(config).iterfind("BrushLabels/Label")]
    return [checked(_LABEL, name, config) for name in names]
