"""A segmenter tried on objects whose masks are known: how well it cuts them, from what boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.geometry.masks import Rle
from pipeline.io.images import Image, read_image
from pipeline.models.sam.calibration import Calibration
from pipeline.runtime.progress import track
from pipeline.types import Dataset, ImageRecord, Segmenter

Error = Literal["shift", "scale"]


@dataclass(frozen=True)
class Instance:
    """One true object: its image, box (4,), mask and category."""

    record: ImageRecord
    box: NDArray[np.float32]
    mask: Rle
    category: str

    @property
    def group(self) -> str:
        """Pictures of one object share it."""
        return self.record.group or self.record.file_name

    @property
    def longer_side(self) -> float:
        """Of its box, in pixels."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))


@dataclass(frozen=True)
class Evaluation:
    """iou: (N,) of each target's mask with the truth. quality: named columns (N,)."""

    iou: NDArray[np.float64]
    quality: Mapping[str, NDArray[np.float32]]


def instances_of(dataset: Dataset) -> list[Instance]:
    """Every object of a set that has a mask with pixels, in the order of images."""
    found = []
    for record in dataset.records:
        objects = dataset.on(record)
        for row, rle in enumerate(objects.masks or ()):
            if mask_geometry.area(rle):
                name = dataset.categories[objects.labels[row]]
                found.append(Instance(record, objects.boxes[row], rle, name))
    return found


def by_image(known: Sequence[Instance]) -> Iterator[tuple[Image, list[int]]]:
    """Each image once, with the indices of its targets, which must follow each other."""
    for _, group in groupby(range(len(known)), key=lambda index: known[index].record.path):
        rows = list(group)
        yield read_image(known[rows[0]].record.path), rows


def evaluate_boxes(
    segmenter: Segmenter,
    known: Sequence[Instance],
    boxes: Boxes | None = None,
    title: str = "",
    calibration: Calibration | None = None,
) -> Evaluation:
    """Let a segmenter cut every target, from its true box or the row of `boxes` (N, 4)."""
    given = as_boxes([target.box for target in known]) if boxes is None else boxes
    ious = np.zeros(len(known))
    columns: dict[str, NDArray[np.float32]] = {}
    images = len({target.record.path for target in known})
    for image, rows in track(by_image(known), title or "try", total=images):
        found = segmenter.segment(image, given[rows])
        if calibration:
            found = calibration.trusted(found, [known[row].category for row in rows])
        for name, column in found.quality.items():
            columns.setdefault(name, np.zeros(len(known), np.float32))[rows] = column
        for row, rle in zip(rows, found.masks, strict=True):
            ious[row] = mask_geometry.paired_iou(rle, known[row].mask)
    return Evaluation(ious, columns)


def perturb_boxes(known: Sequence[Instance], kind: Error, share: float, seed: int = 0) -> Boxes:
    """The true boxes off by `share` of their sides: shifted in a direction of chance, or widened
    and narrowed in turn."""
    boxes = as_boxes([target.box for target in known])
    sides = boxes[:, 2:] - boxes[:, :2]
    if kind == "shift":
        angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(boxes))
        step = sides * share * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return as_boxes(boxes + np.tile(step, 2))
    sign = np.where(np.arange(len(boxes)) % 2, -1, 1)[:, None]
    grown = sides * share / 2 * sign
    return as_boxes(boxes + np.concatenate([-grown, grown], axis=1))


def subsample(known: Sequence[Instance], count: int | None, seed: int) -> list[Instance]:
    """At least `count` targets (all for None): whole groups, drawn by `seed`, each category's in
    turn, so that few masks still show what kinds there are."""
    if count is None or count >= len(known):
        return list(known)
    generator = np.random.default_rng(seed)
    kinds = {target.group: target.category for target in known}
    order = [sorted(kinds)[index] for index in generator.permutation(len(kinds))]
    rank: dict[str, int] = {}
    seen: dict[str, int] = {}
    for group in order:
        rank[group] = seen.get(kinds[group], 0)
        seen[kinds[group]] = rank[group] + 1
    chosen: set[str] = set()
    for group in sorted(order, key=lambda name: rank[name]):  # stable: by chance within a rank
        if sum(target.group in chosen for target in known) >= count:
            break
        chosen.add(group)
    return [target for target in known if target.group in chosen]


def folds(known: Sequence[Instance], count: int, seed: int) -> NDArray[np.int64]:
    """(N,) fold of each target; a group stays together, and kinds are spread."""
    kinds = {target.group: target.category for target in known}
    names = sorted(kinds)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    dealt = {g: n % count for n, g in enumerate(sorted(order, key=lambda name: kinds[name]))}
    return np.array([dealt[target.group] for target in known], dtype=np.int64)
