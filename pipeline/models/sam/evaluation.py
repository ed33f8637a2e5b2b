"""A segmenter evaluated on objects with known masks, from true boxes or boxes that are off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.geometry.masks import Rle
from pipeline.interfaces import Segmenter
from pipeline.io.images import Image, read_image
from pipeline.models.sam.calibration import Calibration
from pipeline.runtime.progress import track
from pipeline.types import Dataset, ImageRecord

BoxError = Literal["shift", "scale"]


@dataclass(frozen=True)
class Instance:
    """One true object: its image, box (4,), mask and category."""

    record: ImageRecord
    box: NDArray[np.float32]
    mask: Rle
    category: str

    @property
    def group(self) -> str:
        """Photos of one object share it."""
        return self.record.group or self.record.file_name

    @property
    def longer_side(self) -> float:
        """Of the box, in pixels."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))


@dataclass(frozen=True)
class Evaluation:
    """iou: (N,) of each object's mask with the truth. quality: named columns (N,)."""

    iou: NDArray[np.float64]
    quality: Mapping[str, NDArray[np.float32]]


def instances_of(dataset: Dataset) -> list[Instance]:
    """Every object of a set that has a mask with pixels, in the order of images."""
    instances = []
    for record in dataset.records:
        objects = dataset.on(record)
        for row, rle in enumerate(objects.masks or ()):
            if mask_geometry.area(rle):
                name = dataset.categories[objects.labels[row]]
                instances.append(Instance(record, objects.boxes[row], rle, name))
    return instances


def by_image(instances: Sequence[Instance], title: str) -> Iterator[tuple[Image, list[int]]]:
    """Each image once, with the indices of its objects, which must follow each other. title: of the
    progress bar."""
    groups = groupby(range(len(instances)), key=lambda row: instances[row].record.path)
    indices = [list(group) for _, group in groups]
    for rows in track(indices, title):
        yield read_image(instances[rows[0]].record.path), rows


class Attempt(NamedTuple):
    """A segmenter, and a box (N, 4) for each object."""

    segmenter: Segmenter
    boxes: Boxes


def evaluate_boxes(
    segmenter: Segmenter,
    instances: Sequence[Instance],
    boxes: Boxes | None = None,
    title: str = "",
    calibration: Calibration | None = None,
) -> Evaluation:
    """Segment every object from its true box, or from the row of `boxes` (N, 4)."""
    attempt = Attempt(segmenter, true_boxes(instances) if boxes is None else boxes)
    return evaluate_attempts([attempt], instances, title, calibration)[0]


def evaluate_attempts(
    attempts: Sequence[Attempt],
    instances: Sequence[Instance],
    title: str = "",
    calibration: Calibration | None = None,
) -> list[Evaluation]:
    """Segment every object by each attempt. Each image is read once for all attempts, which can so
    share what is computed on it."""
    ious = np.zeros((len(attempts), len(instances)))
    columns: list[dict[str, NDArray[np.float32]]] = [{} for _ in attempts]
    for image, rows in by_image(instances, title or "evaluate"):
        for (segmenter, boxes), own_ious, own_columns in zip(attempts, ious, columns, strict=True):
            masks = segmenter.segment(image, boxes[rows])
            if calibration:
                categories = [instances[row].category for row in rows]
                masks = calibration.add_expected_iou(masks, categories)
            for name, column in masks.quality.items():
                empty = np.zeros(len(instances), np.float32)
                own_columns.setdefault(name, empty)[rows] = column
            for row, rle in zip(rows, masks.masks, strict=True):
                own_ious[row] = mask_geometry.paired_iou(rle, instances[row].mask)
    return [Evaluation(*pair) for pair in zip(ious, columns, strict=True)]


def true_boxes(instances: Sequence[Instance]) -> Boxes:
    """(N, 4)."""
    return as_boxes([one.box for one in instances])


def perturb_boxes(
    instances: Sequence[Instance], error: BoxError, share: float, seed: int = 0
) -> Boxes:
    """The true boxes (N, 4) off by `share` of their sides: shifted in a random direction, or
    alternately widened and narrowed."""
    boxes = true_boxes(instances)
    sides = boxes[:, 2:] - boxes[:, :2]
    if error == "shift":
        angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(boxes))
        step = sides * share * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return as_boxes(boxes + np.tile(step, 2))
    sign = np.where(np.arange(len(boxes)) % 2, -1, 1)[:, None]
    grown = sides * share / 2 * sign
    return as_boxes(boxes + np.concatenate([-grown, grown], axis=1))


def subsample(instances: Sequence[Instance], count: int | None, seed: int) -> list[Instance]:
    """At least `count` objects (all for None): whole groups, drawn by `seed`, from each category
    alternately, so that few masks still cover the categories."""
    if count is None or count >= len(instances):
        return list(instances)
    generator = np.random.default_rng(seed)
    category_of = {one.group: one.category for one in instances}
    order = [sorted(category_of)[index] for index in generator.permutation(len(category_of))]
    rank: dict[str, int] = {}
    count_of: dict[str, int] = {}
    for group in order:
        category = category_of[group]
        rank[group] = count_of.get(category, 0)
        count_of[category] = rank[group] + 1
    groups: set[str] = set()
    for group in sorted(order, key=lambda name: rank[name]):  # stable: at random within a rank
        if sum(one.group in groups for one in instances) >= count:
            break
        groups.add(group)
    return [one for one in instances if one.group in groups]


def folds(
    instances: Sequence[Instance], count: int, seed: int, known: Mapping[str, int] | None = None
) -> NDArray[np.int64]:
    """(N,) fold of each object; a group stays together, and categories are spread. known: the folds
    of some groups; the others are spread as if there were only these."""
    category_of = {one.group: one.category for one in instances}
    names = sorted(set(category_of) - set(known or {}))
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    by_category = sorted(order, key=lambda name: category_of[name])
    fold_of = {group: number % count for number, group in enumerate(by_category)} | dict(
        known or {}
    )
    return np.array([fold_of[one.group] for one in instances], dtype=np.int64)
