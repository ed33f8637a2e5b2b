"""COCO files and figures from the rows of a work log, one row in memory at a time.

A row is the text of a COCO annotation, as `formats.coco.row_texts` makes it.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipeline.formats.coco import image_text, result_text
from pipeline.formats.coco_rows import JsonRow
from pipeline.formats.coco_stream import coco_writer, write_rows
from pipeline.io.work_log import WorkLog
from pipeline.types import Dataset


def write_logged_coco(
    folder: Path,
    prompts: Dataset,
    log: WorkLog[Any],
    image_keys: Callable[[int], JsonRow] = lambda _: {},
) -> None:
    """Write instances.json and results.json into `folder`, in the order of the prompts. The log
    has an item for each finished image, by its id; other images are left out. image_keys: other
    keys of an image in instances.json, by its id."""
    numbers, prompt_ids = array("q"), array("q")
    for number, text in log.rows():
        numbers.append(number)
        prompt_ids.append(json.loads(text).get("prompt_id", 0))
    order = np.argsort(np.asarray(prompt_ids, np.int64), kind="stable")
    with coco_writer(folder / "instances.json", prompts.categories) as writer:
        for record in prompts.records:
            if record.id in log:
                writer.add_image(image_text(record, image_keys(record.id)))
        writer.add_rows(log.row_at(numbers[index]) for index in order)
    results = (result_text(log.row_at(numbers[index])) for index in order)
    write_rows(folder / "results.json", results)


@dataclass(frozen=True)
class LoggedMask:
    """A row of the log. image_id, category_id: as in COCO, from 1. bbox: x, y, width, height in
    pixels. segmentation: COCO's. failed: there is no mask. confidence: in [0, 1]."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    segmentation: JsonValue
    failed: bool
    confidence: float


@dataclass(frozen=True)
class LeastConfident:
    """figure: the name of the confidence; "" without a row. values: (N,) that of every row. masks:
    those with the least, least first."""

    figure: str
    values: NDArray[np.float64]
    masks: tuple[LoggedMask, ...]


def least_confident(log: WorkLog[Any], figures: Sequence[str], count: int) -> LeastConfident:
    """The `count` masks with the least of the first of `figures` that the rows have."""
    numbers, least, figure = array("q"), array("d"), ""
    for number, text in log.rows():
        row = json.loads(text)
        figure = next(name for name in figures if name in row)
        numbers.append(number)
        least.append(row[figure])
    values = np.asarray(least)
    order = np.argsort(values, kind="stable")[:count]
    masks = tuple(_logged_mask(log.row_at(numbers[index]), figure) for index in order)
    return LeastConfident(figure, values, masks)


def _logged_mask(text: str, figure: str) -> LoggedMask:
    row = json.loads(text)
    x, y, width, height = row["bbox"]
    return LoggedMask(
        image_id=row["image_id"],
        category_id=row["category_id"],
        bbox=(x, y, width, height),
        segmentation=row["segmentation"],
        failed=bool(row["failed"]),
        confidence=row[figure],
    )


def sum_figures(log: WorkLog[Any], figures: Sequence[str]) -> tuple[dict[str, float], int]:
    """The sum of each figure over all rows, NaN where a row lacks it, and the failed masks."""
    sums = dict.fromkeys(figures, 0.0)
    failed = 0
    for _, text in log.rows():
        row = json.loads(text)
        failed += bool(row["failed"])
        for name in figures:
            sums[name] += float(row.get(name, float("nan")))
    return sums, failed
