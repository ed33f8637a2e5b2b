"""COCO's annotations as JSON texts, column by column: for many small objects, an encoder that
starts again for each takes most of the time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from pydantic import JsonValue

from pipeline.formats.coco_columns import json_number, written_columns
from pipeline.geometry.boxes import xyxy_to_xywh
from pipeline.geometry.masks import Rle, to_patch
from pipeline.geometry.polygons import coco_rings, draw_coco, patch_iou, simplified
from pipeline.geometry.runs import areas
from pipeline.types import Detections, ImageRecord

JsonRow = dict[str, JsonValue]  # an image's entry, or an annotation
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False)


def json_line(value: JsonRow) -> str:
    """An object as JSON on one line, with its keys in order."""
    return _ENCODER.encode(value)


def row_texts(record: ImageRecord, objects: Detections, loss: float | None = None) -> list[str]:
    """An image's annotations as JSON texts without ids, for `CocoWriter`, in the form of
    `json_line`. A figure that is no finite number is left out.

    loss: None writes RLE. A number writes polygons, simplified to lose at most this share of IoU,
    and RLE for an object whose polygons would lose more.
    """
    boxes = xyxy_to_xywh(objects.boxes)
    columns: dict[str, Sequence[str | None]] = {
        name: [_finite_text(value) for value in column]
        for name, column in written_columns(objects).items()
    }
    columns |= {
        "image_id": [str(record.id)] * len(objects),
        "category_id": [str(label + 1) for label in objects.labels.tolist()],
        "bbox": list(map(_list_text, boxes.tolist())),
        "iscrowd": ["0"] * len(objects),
    }
    if objects.masks is not None:
        columns["segmentation"] = [_segmentation(rle, loss) for rle in objects.masks]
        columns["area"] = list(map(str, areas(objects.masks).tolist()))
    else:
        columns["area"] = list(map(_number_text, (boxes[:, 2] * boxes[:, 3]).tolist()))
    if objects.scores is not None:
        scores = objects.scores.tolist()
        columns["score"] = [_finite_text(json_number(score, 6)) for score in scores]
    return _joined(dict(sorted(columns.items())))


def _joined(columns: Mapping[str, Sequence[str | None]]) -> list[str]:
    """The rows of columns of JSON texts; a key without a text is left out of its row."""
    keys = [f"{_ENCODER.encode(name)}: " for name in columns]
    rows = list(zip(*columns.values(), strict=True))
    if not any(None in column for column in columns.values()):
        form = ", ".join(key.replace("%", "%%") + "%s" for key in keys)
        return [f"{{{form % row}}}" for row in rows]
    return [
        f"{{{', '.join([key + text for key, text in zip(keys, row, strict=True) if text])}}}"
        for row in rows
    ]


def _list_text(values: list[float]) -> str:
    return f"[{', '.join(map(_number_text, values))}]"


def _number_text(value: float) -> str:
    number = round(value, 3)
    return repr(number) if number % 1 else str(int(number))


def _finite_text(value: JsonValue) -> str | None:
    """A value, or a list of numbers; None for one that JSON cannot hold, or that is not known."""
    if value is None:
        return None
    numbers = value if isinstance(value, list) else [value]
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        return None
    return _ENCODER.encode(value)


def _segmentation(rle: Rle, loss: float | None) -> str:
    height, width = rle["size"]
    if loss is not None:
        patch = to_patch(rle)
        draw = partial(draw_coco, height=height, width=width)
        rings = simplified(coco_rings(patch), patch, draw, loss)
        if rings and patch_iou(patch, draw(rings)) >= 1 - loss:
            return f"[{', '.join(_list_text(np.ravel(ring).tolist()) for ring in rings)}]"
    counts = rle["counts"].decode("ascii").replace("\\", "\\\\")  # no other character needs it
    return f'{{"counts": "{counts}", "size": [{height}, {width}]}}'
