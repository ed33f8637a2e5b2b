"""`review.html`: close-ups of the masks that most deserve a look, least trusted first."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape
from numpy.typing import NDArray

from pipeline.formats.coco_masks import segmentation_rle
from pipeline.io.images import Image, read_image
from pipeline.io.write import write_text
from pipeline.types import ImageRecord
from pipeline.visualization.overlays import close_up

_BANDS = (0.5, 0.7, 0.85)  # of trust
_QUALITY = 90  # of JPEG


def review_page(
    path: Path,
    rows: Sequence[tuple[ImageRecord, Mapping[str, Any]]],
    categories: Sequence[str],
    figure: str,
    trust: NDArray[np.float64],
) -> None:
    """Write the page. rows: annotations with their images, least trusted first. figure: the key
    that says how far to trust one. trust: (N,) that figure of every mask there is.

    Raises DataError for an image that cannot be read.
    """
    shown: list[dict[str, Any]] = [{} for _ in rows]
    for number, picture in _close_ups(rows):
        record, row = rows[number]
        shown[number] = {
            "picture": _inline(picture),
            "trust": "no mask" if row["failed"] else f"{row[figure]:.2f}",
            "category": categories[int(row["category_id"]) - 1],
            "image": record.file_name,
            "at": ", ".join(f"{value:.0f}" for value in row["bbox"]),
        }
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape()
    )
    below = [(limit, int((trust < limit).sum())) for limit in _BANDS]
    page = environment.get_template("review_page.html").render(
        rows=shown, figure=figure.replace("_iou", " IoU"), masks=len(trust), below=below
    )
    write_text(path, page + "\n")


def _close_ups(
    rows: Sequence[tuple[ImageRecord, Mapping[str, Any]]],
) -> Iterator[tuple[int, Image]]:
    """Each row's number and picture; an image is read once for all of its rows."""
    order = sorted(range(len(rows)), key=lambda number: rows[number][0].id)
    for _, group in groupby(order, key=lambda number: rows[number][0].id):
        numbers = list(group)
        image = read_image(rows[numbers[0]][0].path)
        for number in numbers:
            record, row = rows[number]
            x, y, width, height = row["bbox"]
            box = np.array([x, y, x + width, y + height], np.float32)
            mask = segmentation_rle(row["segmentation"], record.size)
            yield number, close_up(image, mask, None, box)


def _inline(picture: Image) -> str:
    done, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise ValueError("a close-up cannot be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
