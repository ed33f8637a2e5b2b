"""Label Studio's JSON: brush strokes as run-length codes, rectangles in percent of the image. See
`label_studio_reader` for what is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from pydantic import JsonValue

from pipeline.formats.label_studio_reader import CONFIG, TASKS, read_label_studio
from pipeline.formats.rle_pack import encode_brush_patch
from pipeline.formats.text_stream import json_lines_list, text_file
from pipeline.geometry.boxes import xyxy_to_xywh
from pipeline.geometry.masks import to_patch
from pipeline.io.image_copies import place_image
from pipeline.io.write import write_text
from pipeline.types import Dataset, Detections, ImageRecord

__all__ = ["read_label_studio", "write_label_studio"]
_LOCAL = "/data/local-files/?d="

JsonObject = dict[str, JsonValue]


def write_label_studio(root: Path, dataset: Dataset, copy_images: bool = False) -> None:
    """Write tasks.json, label_config.xml for the labeling interface, and the images, which the
    tasks name as local files.

    Objects with an expected IoU or a score become predictions with that score; the score of a task
    is its lowest, to sort the tasks by. Other objects become annotations.
    """
    for record in dataset.records:
        place_image(record.path, root / "images" / record.file_name, copy_images)
    tasks = (_task(record, dataset.on(record), dataset.categories) for record in dataset.records)
    with text_file(root / TASKS) as file:
        file.writelines(json_lines_list(tasks))
        file.write("\n")
    write_text(root / CONFIG, _config(dataset.categories))


def _task(record: ImageRecord, objects: Detections, categories: Sequence[str]) -> JsonObject:
    results: list[JsonValue] = [
        _result(objects, row, categories, record) for row in range(len(objects))
    ]
    entry: JsonObject = {
        "id": record.id,
        "data": {"image": _LOCAL + quote(f"images/{record.file_name}"), "split": record.split},
    }
    if objects.confidence is not None and len(objects):
        lowest = round(float(objects.confidence.min()), 6)
        prediction: JsonObject = {
            "model_version": "pipeline", "score": lowest, "result": results,
        }  # fmt: skip
        return entry | {"predictions": [prediction]}
    return entry | {"annotations": [{"id": record.id, "result": results}]}


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
        patch = to_patch(objects.masks[row])
        code: list[JsonValue] = [*encode_brush_patch(patch, record.height, record.width)]
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


def _config(categories: Sequence[str]) -> str:
    labels = "".join(f"\n    <Label value={quoteattr(name)}/>" for name in categories)
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="brush" toName="image">{labels}\n  </BrushLabels>\n'
        f'  <RectangleLabels name="box" toName="image">{labels}\n  </RectangleLabels>\n</View>\n'
    )
