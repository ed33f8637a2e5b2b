"""`review.html`: close-ups of the masks with the lowest confidence, lowest first."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape
from numpy.typing import NDArray

from pipeline.formats.coco_log import rows_with_least
from pipeline.formats.coco_masks import segmentation_rle
from pipeline.geometry.masks import Rle
from pipeline.io.images import Image, read_image
from pipeline.io.work_log import WorkLog
from pipeline.io.write import write_text
from pipeline.types import Dataset, ImageRecord
from pipeline.visualization.overlays import close_up

_LIMITS = (0.5, 0.7, 0.85)  # confidences below which the page counts masks
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class ReviewMask:
    """A mask to show. box: x, y, width, height in pixels. confidence: in [0, 1]; None where the
    segmenter found no mask."""

    record: ImageRecord
    category: str
    box: tuple[float, float, float, float]
    mask: Rle
    confidence: float | None


def review_logged(
    folder: Path, prompts: Dataset, log: WorkLog[Any], figures: Sequence[str], count: int
) -> None:
    """Write review.html for the `count` masks in a log of COCO rows with the least of the first
    figure that they have. Nothing without a mask."""
    figure, values, rows = rows_with_least(log, figures, count)
    if not rows:
        return
    records = {record.id: record for record in prompts.records}
    masks = [
        ReviewMask(
            record := records[row["image_id"]],
            prompts.categories[row["category_id"] - 1],
            tuple(row["bbox"]),
            segmentation_rle(row["segmentation"], record.size),
            None if row["failed"] else row[figure],
        )
        for row in rows
    ]
    review_page(folder / "review.html", masks, figure, values)


def review_page(
    path: Path, masks: Sequence[ReviewMask], figure: str, confidences: NDArray[np.float64]
) -> None:
    """Write the page.

    masks: those to show, lowest confidence first. figure: the name of the confidence, such as
    `expected_iou`. confidences: (N,) of all masks of the run. Raises DataError for an image that
    cannot be read.
    """
    rows: list[dict[str, str]] = [{} for _ in masks]
    for number, picture in _close_ups(masks):
        shown = masks[number]
        rows[number] = {
            "picture": inline_picture(picture),
            "confidence": "no mask" if shown.confidence is None else f"{shown.confidence:.2f}",
            "category": shown.category,
            "image": shown.record.file_name,
            "at": ", ".join(f"{value:.0f}" for value in shown.box),
        }
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape()
    )
    below = [(limit, int((confidences < limit).sum())) for limit in _LIMITS]
    page = environment.get_template("review_page.html").render(
        rows=rows, figure=figure.replace("_iou", " IoU"), masks=len(confidences), below=below
    )
    write_text(path, page + "\n")


def _close_ups(masks: Sequence[ReviewMask]) -> Iterator[tuple[int, Image]]:
    """The index and the picture of each mask. An image is read once for all its masks."""
    order = sorted(range(len(masks)), key=lambda number: masks[number].record.id)
    for _, group in groupby(order, key=lambda number: masks[number].record.id):
        numbers = list(group)
        image = read_image(masks[numbers[0]].record.path)
        for number in numbers:
            x, y, width, height = masks[number].box
            box = np.array([x, y, x + width, y + height], np.float32)
            yield number, close_up(image, masks[number].mask, None, box)


def inline_picture(picture: Image) -> str:
    """The picture (H, W, 3) as the `src` of an HTML image."""
    done, data = cv2.imencode(
        ".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    if not done:
        raise ValueError("a close-up cannot be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
