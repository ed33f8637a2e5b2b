"""The rows of a YOLO label file: `label cx cy w h` or `label x1 y1 x2 y2 ...`, and perhaps a
confidence at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.image_objects import ROUNDED
from pipeline.formats.source import SourceLog
from pipeline.formats.values import encode_stream, refuse_far
from pipeline.geometry.boxes import yolo_to_xyxy
from pipeline.geometry.masks import area, bounding_boxes
from pipeline.geometry.patches import Patch
from pipeline.geometry.polygons import Ring
from pipeline.geometry.yolo_pixels import (
    Grid,
    common_grid,
    draw_between,
    draw_on_grid,
    rounding,
)
from pipeline.types import Detections

_MAX_NUMBER = 1e4  # limit for a number in a row; inside the image, numbers are 0 to 1
_FARTHEST = 2  # of a box, as for the points of a polygon: the image's own side beyond it
_MARKS = {0.0, 1.0, 2.0}  # of a keypoint: not labelled, hidden, visible
_LEAST_KEYPOINTS = 3  # of a row that is taken for a pose where data.yaml does not say so
_NOT_ALL = "confidences that not all rows of a file have are left out"
_NOT_READ = "a last column that is no confidence, such as a track, is left out"


class _LabelRow(NamedTuple):
    """Label, box (4,) or polygon (2 P,), how far each of its numbers may be from what was meant,
    and what stands behind it: a confidence or a track.
    has_track: a track is behind the confidence. is_pose: it is the box of a pose, whose keypoints
    are left out."""

    label: int
    shape: NDArray[np.float64]
    errors: NDArray[np.float64]
    last: float | None
    has_track: bool = False
    is_pose: bool = False


def parse_labels(
    text: str, size: tuple[int, int], categories: int | Mapping[int, int],
    log: SourceLog | None = None, keypoints: tuple[int, int] | None = None, where: str = "",
) -> Detections:  # fmt: skip
    """The objects of one label file: boxes, or polygons, see `geometry.yolo_pixels`.

    size: (height, width) of the image. categories: their number, or the index of each number that a
    row may name. log: counts the rows. keypoints: their number and the numbers of each, of a set of
    poses. where: the label file, for what is left out. Raises ValueError naming the row.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines:
        return Detections.none()
    known = dict(enumerate(range(categories))) if isinstance(categories, int) else categories
    has_keypoints = keypoints is not None or all(map(_looks_like_pose, lines))
    length = 4 + keypoints[0] * keypoints[1] if keypoints else len(lines[0]) - 1
    are_boxes = all(len(line) == 7 for line in lines)
    rows = [
        _parse_row(line, number, known, length if has_keypoints else 0, are_boxes)
        for number, line in enumerate(lines, start=1)
    ]
    labels = np.array([row.label for row in rows], dtype=np.int64)
    scores = _scores(rows, log)
    poses = sum(row.is_pose for row in rows)
    boxes = sum(len(row.shape) == 4 for row in rows)
    if boxes == len(rows):
        shapes = np.array([row.shape for row in rows])
        return _boxes(
            Detections(yolo_to_xyxy(shapes, *size), labels, scores), size, log, poses, where
        )
    masks = encode_stream(_draw_rows(rows, size), *size)
    detections = Detections(bounding_boxes(masks), labels, scores, tuple(masks))
    return _polygons(detections, rows, log, where) if log else detections


def _polygons(
    detections: Detections, rows: Sequence[_LabelRow], log: SourceLog, where: str
) -> Detections:
    """The objects of a file of polygons, counted. Those without a pixel are left out."""
    kept = [row for row, mask in enumerate(detections.masks or ()) if area(mask)]
    for row in sorted({*range(len(rows))} - {*kept}):
        log.leave_out("polygon", "it covers no pixel of the image", f"{where} row {row + 1}")
    poses = sum(rows[row].is_pose for row in kept)
    boxes = sum(len(rows[row].shape) == 4 for row in kept)
    log.convert("pose", "polygon of its box; its keypoints are left out", poses)
    log.convert("box among polygons", "polygon", boxes - poses)
    log.read(len(kept) - boxes)
    return detections if len(kept) == len(rows) else detections.select(kept)


def _boxes(
    detections: Detections, size: tuple[int, int], log: SourceLog | None, poses: int, where: str
) -> Detections:
    """The boxes, cut to the image. With a log, they are counted, and those without an area inside
    are left out."""
    low, high = detections.boxes[:, :2], detections.boxes[:, 2:]
    most = np.array([size[1], size[0]], dtype=np.float32)
    cut = np.clip(detections.boxes, 0, np.tile(most, 2))
    has_area = np.asarray(((low < high) & (cut[:, :2] < cut[:, 2:])).all(axis=1))
    is_cut = has_area & (np.abs(cut - detections.boxes).max(axis=1) > ROUNDED)
    whole = replace(detections, boxes=cut)
    if not log:
        return whole
    for row in np.flatnonzero(~has_area).tolist():
        log.leave_out("box", "it has no area inside the image", f"{where} row {row + 1}")
    kept = int(has_area.sum())
    if poses:
        log.convert("pose", "box; its keypoints are left out", kept)
        return whole.select(has_area)
    log.convert("box", "box clipped to the image", int(is_cut.sum()))
    log.read(kept - int(is_cut.sum()))
    return whole.select(has_area)


def label_file_of(image: Path) -> Path:
    """The label file of an image in ultralytics: the last folder called `images` in its path
    becomes `labels`."""
    parts = list(image.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts) / f"{image.stem}.txt"


def _parse_row(
    row: Sequence[str], number: int, known: Mapping[int, int], pose: int, are_boxes: bool
) -> _LabelRow:
    """pose: how many numbers a pose has; 0 for a set without poses. are_boxes: all rows of the file
    have six numbers."""
    try:
        label, values = float(row[0]), np.array(row[1:], dtype=np.float64)
    except ValueError:
        raise ValueError(f"row {number} is not all numbers") from None
    if label not in known:
        raise ValueError(f"row {number} names label {label:g}, but there are {len(known)}")
    is_pose = pose > 0 and len(values) in {pose, pose + 1}
    last, has_track = None, _has_score_and_track(row, are_boxes)
    if is_pose:
        last = float(values[-1]) if len(values) > pose else None
        values = values[:4]
    elif has_track:
        last, values = float(values[-2]), values[:-2]
    elif len(values) >= 5 and len(values) % 2:
        values, last = values[:-1], float(values[-1])
    if len(values) != 4 and len(values) < 6:
        raise ValueError(f"row {number} has {len(row) - 1} numbers: 4, or 6 and more, in pairs")
    if not (np.abs(values) <= _MAX_NUMBER).all():  # `not` is true of NaN too
        raise ValueError(f"row {number} has numbers far outside 0 to 1")
    if len(values) == 4 and not ((values >= -1) & (values <= _FARTHEST)).all():
        raise ValueError(f"row {number} has numbers far outside 0 to 1: they may be pixels")
    errors = rounding(row[1 : len(values) + 1])
    return _LabelRow(known[int(label)], values, errors, last, has_track, is_pose)


def _looks_like_pose(row: Sequence[str]) -> bool:
    """Whether a row is a box and three keypoints or more, each with a mark of 0, 1 or 2. The parts
    of a polygon are fractions."""
    marks = row[7::3]
    if len(marks) < _LEAST_KEYPOINTS or (len(row) - 5) % 3:
        return False
    try:
        return {float(mark) for mark in marks} <= _MARKS
    except ValueError:
        return False


def _has_score_and_track(row: Sequence[str], are_boxes: bool) -> bool:
    """Whether ultralytics wrote a confidence and the number of a track behind a box or polygon: no
    part of a polygon is a whole number above 1. A 1 may also be the edge of the image, at the end
    of a triangle; it is a track where all rows of the file may be boxes (`are_boxes`)."""
    if len(row) not in {7, 9} and (len(row) < 9 or len(row) % 2 == 0):
        return False
    if not row[-1].isdecimal() or row[-1] == "0":
        return False
    return int(row[-1][:9]) > 1 or (are_boxes and _is_box(row[1:5]) and "." in row[5])


def _is_box(texts: Sequence[str]) -> bool:
    """Whether four numbers are a box inside the image."""
    x, y, width, height = map(float, texts)
    return all(middle - side / 2 >= 0 and middle + side / 2 <= 1 and side > 0
               for middle, side in ((x, width), (y, height)))  # fmt: skip


def _scores(rows: Sequence[_LabelRow], log: SourceLog | None) -> NDArray[np.float32] | None:
    """The confidences (N,) in [0, 1] at the end of the rows; None where not all rows have one."""
    last = [row.last for row in rows if row.last is not None]
    if log and any(row.has_track for row in rows):
        log.note(_NOT_READ)
    if len(last) == len(rows) and all(0 <= value <= 1 for value in last):
        return np.array(last, dtype=np.float32)
    if last and log:
        is_score = all(0 <= value <= 1 and value % 1 for value in last)
        log.note(_NOT_ALL if is_score and len(last) < len(rows) else _NOT_READ)
    return None


def _draw_rows(rows: Sequence[_LabelRow], size: tuple[int, int]) -> Iterator[Patch]:
    """The pixels of each row. One tool writes a file, so all its polygons are on one raster. A box
    among them has edges."""
    grid = _grid_of([row for row in rows if len(row.shape) > 4], size)
    sides = np.array(size[::-1], dtype=np.float64)
    for number, row in enumerate(rows, start=1):
        ring = row.shape.reshape(-1, 2) if len(row.shape) > 4 else _corners(row.shape)
        if ring.min() < 0 or ring.max() > 1:
            try:
                refuse_far(ring * sides, *size)
            except ValueError as error:
                raise ValueError(f"row {number}: {error}") from None
        if grid and len(row.shape) > 4:
            yield draw_on_grid(ring, grid, *size)
        else:
            yield draw_between(ring * sides, *size)


def _grid_of(rows: Sequence[_LabelRow], size: tuple[int, int]) -> Grid | None:
    rings = [row.shape.reshape(-1, 2) for row in rows]
    return common_grid(rings, [row.errors.reshape(-1, 2) for row in rows], *size)


def _corners(box: NDArray[np.float64]) -> Ring:
    x, y, width, height = box
    x0, y0, x1, y1 = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
