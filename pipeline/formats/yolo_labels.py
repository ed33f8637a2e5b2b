"""The rows of a YOLO label file: `label cx cy w h` or `label x1 y1 x2 y2 ...`, and perhaps a
confidence at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.source import SourceLog
from pipeline.formats.values import encode_stream, refuse_far
from pipeline.geometry.boxes import yolo_to_xyxy
from pipeline.geometry.masks import bounding_boxes
from pipeline.geometry.patches import Patch
from pipeline.geometry.polygons import Ring, draw_yolo
from pipeline.types import Detections

_MAX_NUMBER = 1e4  # limit for a number in a row; inside the image, numbers are 0 to 1
_NOT_READ = "a last column that is no confidence, such as a track, is left out"


class _LabelRow(NamedTuple):
    """Label, box (4,) or polygon (2 P,), and what stands behind it: a confidence or a track."""

    label: int
    shape: NDArray[np.float64]
    last: float | None


def parse_labels(
    text: str, size: tuple[int, int], categories: int, log: SourceLog | None = None
) -> Detections:
    """The objects of one label file: boxes, or polygons drawn by `fillPoly`, as in ultralytics.

    size: (height, width) of the image. categories: their number. log: counts the rows. Raises
    ValueError naming the row.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines:
        return Detections.none()
    rows = [_parse_row(line, number, categories) for number, line in enumerate(lines, start=1)]
    labels = np.array([row.label for row in rows], dtype=np.int64)
    scores = _scores(rows, log)
    boxes = sum(len(row.shape) == 4 for row in rows)
    if boxes == len(rows):
        if log:
            log.read(boxes)
        shapes = np.array([row.shape for row in rows])
        return Detections(yolo_to_xyxy(shapes, *size), labels, scores)
    masks = encode_stream(_draw_rows((row.shape for row in rows), size), *size)
    if log:
        log.convert("box among polygons", "polygon", boxes)
        log.read(len(rows) - boxes)
    return Detections(bounding_boxes(masks), labels, scores, tuple(masks))


def label_file_of(image: Path) -> Path:
    """The label file of an image in ultralytics: the last folder called `images` in its path
    becomes `labels`."""
    parts = list(image.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts) / f"{image.stem}.txt"


def _parse_row(row: Sequence[str], number: int, categories: int) -> _LabelRow:
    try:
        label, values = float(row[0]), np.array(row[1:], dtype=np.float64)
    except ValueError:
        raise ValueError(f"row {number} is not all numbers") from None
    if not (label.is_integer() and 0 <= label < categories):
        raise ValueError(f"row {number} names label {label:g}, but there are {categories}")
    last = None
    if len(values) >= 5 and len(values) % 2:
        values, last = values[:-1], float(values[-1])
    if len(values) != 4 and len(values) < 6:
        raise ValueError(f"row {number} has {len(row) - 1} numbers: 4, or 6 and more, in pairs")
    if not (np.abs(values) <= _MAX_NUMBER).all():  # `not` is true of NaN too
        raise ValueError(f"row {number} has numbers far outside 0 to 1")
    return _LabelRow(int(label), values, last)


def _scores(rows: Sequence[_LabelRow], log: SourceLog | None) -> NDArray[np.float32] | None:
    """The confidences (N,) in [0, 1] at the end of the rows; None where not all rows have one."""
    last = [row.last for row in rows if row.last is not None]
    if len(last) == len(rows) and all(0 <= value <= 1 for value in last):
        return np.array(last, dtype=np.float32)
    if last and log:
        log.note(_NOT_READ)
    return None


def _draw_rows(shapes: Iterable[NDArray[np.float64]], size: tuple[int, int]) -> Iterator[Patch]:
    height, width = size
    for number, values in enumerate(shapes, start=1):
        ring = values.reshape(-1, 2) if len(values) > 4 else _corners(values)
        if ring.min() < 0 or ring.max() > 1:
            try:
                refuse_far(ring * np.array([width, height]), height, width)
            except ValueError as error:
                raise ValueError(f"row {number}: {error}") from None
        yield draw_yolo(ring, height, width)


def _corners(box: NDArray[np.float64]) -> Ring:
    x, y, width, height = box
    x0, y0, x1, y1 = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
