"""COCO average precision, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import iou, xyxy_to_xywh
from pipeline.types import CROWD, Dataset, Detections

NOT_A_NUMBER = float("nan")


class _Row(TypedDict):
    """An annotation as pycocotools has it. bbox: x, y, width, height in pixels."""

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int
    segmentation: NotRequired[mask_geometry.Rle]
    score: NotRequired[float]


class _CocoFile(TypedDict):
    """The content of a COCO file, as far as pycocotools reads it."""

    images: list[dict[str, int]]
    categories: list[dict[str, int | str]]
    annotations: list[_Row]


@dataclass(frozen=True)
class AveragePrecision:
    """ap: mean over IoU 0.50:0.95. ap50: at IoU 0.50. per_category: name to (ap, ap50).

    Each in [0, 1]; NaN where the truth holds no object.
    """

    ap: float
    ap50: float
    per_category: Mapping[str, tuple[float, float]]


def average_precision(
    truth: Dataset, predictions: Mapping[int, Detections], kind: Literal["bbox", "segm"]
) -> AveragePrecision:
    """COCOeval's AP over all areas, with at most 100 objects on each image.

    predictions: by image id, with scores, and with the labels of the truth. For `segm`, truth and
    predictions need masks. An image without predictions counts as an image without detections.
    Objects of the truth that are crowds are ignored.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    true = {record.id: truth.on(record) for record in truth.records}
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = _coco_file(truth, true, kind, scored=False)
        reference.createIndex()
        results = COCO()
        results.dataset = _coco_file(truth, predictions, kind, scored=True)  # loadRes fails on []
        results.createIndex()
        evaluation = COCOeval(reference, results, kind)
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU, recall, category
    per_category = {
        name: (_mean(precision[:, :, label]), _mean(precision[0, :, label]))
        for label, name in enumerate(truth.categories)
    }
    return AveragePrecision(_mean(precision), _mean(precision[0]), per_category)


def is_crowd(objects: Detections) -> NDArray[np.bool_]:
    """(N,) whether each object is a region that COCOeval ignores, with the detections on it."""
    column = objects.attributes.get(CROWD)
    return np.zeros(len(objects), bool) if column is None else np.asarray(column == 1)


def best_confidence(
    truth: Dataset, predictions: Mapping[int, Detections], minimum_iou: float = 0.5
) -> float | None:
    """A score limit for detections: the lowest score at which F1 over all categories is at least
    0.9 of its maximum. It is not the maximum itself: a missed defect costs more than a false alarm,
    and on a few images the exact maximum is chance.

    predictions: by image id, with scores. A box is right when it has an IoU of `minimum_iou` with a
    true box of its category that no box with a higher score took. None when no box is right.
    """
    scores: list[float] = []
    right: list[bool] = []
    for record in truth.records:
        detections = predictions.get(record.id, Detections.none())
        if detections.scores is not None:
            scores += detections.scores.tolist()
            right += _right(detections, truth.on(record), minimum_iou)
    order = np.argsort(scores, kind="stable")[::-1]
    hits = np.cumsum(np.array(right, dtype=bool)[order])
    if not len(hits) or not hits[-1]:
        return None
    objects = sum(len(truth.on(record)) for record in truth.records)
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + objects)
    last = int(np.flatnonzero(f1 >= 0.9 * f1.max())[-1])
    return float(np.array(scores)[order][last])


def _right(detections: Detections, true: Detections, minimum_iou: float) -> list[bool]:
    """Whether each box is right: greedy matching in the order of scores, each true box once."""
    scores = detections.scores if detections.scores is not None else np.zeros(len(detections))
    shared = iou(detections.boxes, true.boxes)
    shared[detections.labels[:, None] != true.labels[None, :]] = 0
    right = [False] * len(detections)
    for row in np.argsort(-scores, kind="stable"):
        if len(true) and shared[row].max() >= minimum_iou:
            shared[:, int(shared[row].argmax())] = 0
            right[int(row)] = True
    return right


def _mean(precision: Any) -> float:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else NOT_A_NUMBER


def _coco_file(
    truth: Dataset, objects: Mapping[int, Detections], kind: str, scored: bool
) -> _CocoFile:
    """Objects by image id, on the images of the truth. scored: they are predictions."""
    return {
        "images": [
            {"id": record.id, "height": record.height, "width": record.width}
            for record in truth.records
        ],
        "categories": [
            {"id": label + 1, "name": name} for label, name in enumerate(truth.categories)
        ],
        "annotations": _rows(truth, objects, kind, scored),
    }


def _rows(truth: Dataset, objects: Mapping[int, Detections], kind: str, scored: bool) -> list[_Row]:
    rows: list[_Row] = []
    for record in truth.records:
        listed = objects.get(record.id)
        if listed is None:
            continue
        scores = listed.scores if listed.scores is not None else np.ones(len(listed))
        crowds = is_crowd(listed) & (not scored)
        for index, box in enumerate(xyxy_to_xywh(listed.boxes)):
            row: _Row = {
                "id": len(rows) + 1,
                "image_id": record.id,
                "category_id": int(listed.labels[index]) + 1,
                "bbox": [float(value) for value in box],
                "area": float(box[2] * box[3]),
                "iscrowd": int(crowds[index]),
            }
            if listed.masks is not None:
                row["area"] = mask_geometry.area(listed.masks[index])
                if kind == "segm":
                    row["segmentation"] = listed.masks[index]
            if scored:
                row["score"] = float(scores[index])
            rows.append(row)
    return rows
