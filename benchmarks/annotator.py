"""A simulated person, for `annotation_time.py`: what each action costs, and how a mask is made.

Each action costs what was measured with people, in seconds:

- a polygon about an object: 79.2 (Lin et al., "Microsoft COCO", ECCV 2014: 22 hours for 1000)
- a box by its four extreme points: 7.0 (Papadopoulos et al., "Extreme clicking", ICCV 2017)
- a click on an object: 2.4 (Bearman et al., "What's the point", ECCV 2016)
- to verify a mask or a box: 1.8 (Papadopoulos et al., "We don't need no bounding-boxes", CVPR 2016)
- to see whether an image has a defect: 1.0 (Bearman et al. 2016: a second for a category)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import distance_transform_edt

from pipeline.geometry.masks import Rle, decode, encode_patches, paired_iou
from pipeline.geometry.patches import Patch
from pipeline.io.images import Image
from pipeline.metrics.label_quality import compare_labels
from pipeline.review.assistant import Box, Click, SamAssistant
from pipeline.types import Dataset, Detections

SECONDS = {"polygon": 79.2, "box": 7.0, "click": 2.4, "verify": 1.8, "image": 1.0}
GOAL = 0.85  # IoU
CLICKS = 4  # before a mask is drawn by hand


@dataclass
class Diary:
    """What a person did. points: after each image, the minutes so far and the label IoU of the
    whole set."""

    actions: Counter[str] = field(default_factory=Counter)
    points: list[tuple[float, float]] = field(default_factory=list)

    def do(self, action: str) -> None:
        self.actions[action] += 1

    @property
    def minutes(self) -> float:
        return sum(SECONDS[name] * count for name, count in self.actions.items()) / 60


class Quality:
    """The label IoU of a set while it is labelled: a defect without a label counts 0."""

    def __init__(self, data: Dataset) -> None:
        self._data = data
        self._ious = {record.id: [0.0] * len(data.on(record)) for record in data.records}

    def finished(self, image: int, ious: Sequence[float]) -> None:
        self._ious[image] = list(ious)

    def proposed(self, image: int, labels: Detections) -> None:
        record = next(one for one in self._data.records if one.id == image)
        compared = compare_labels(self._data.on(record), labels, self._data.categories, "")
        self._ious[image] = [defect.iou for defect in compared.defects]

    @property
    def label_iou(self) -> float:
        ious = [iou for own in self._ious.values() for iou in own]
        return float(np.mean(ious)) if ious else 0.0


def wrong_place(patch: Patch | None, truth: Rle) -> Click:
    """A click where a mask is most wrong: the innermost pixel of its largest error."""
    true = decode(truth)
    own = np.zeros_like(true)
    if patch is not None:
        own = decode(encode_patches([patch], *true.shape)[0])
    inside, outside = (np.pad(each, 1) for each in (true & ~own, own & ~true))
    depths = distance_transform_edt(inside), distance_transform_edt(outside)
    depth = depths[0] if depths[0].max() >= depths[1].max() else depths[1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return Click(float(x) - 0.5, float(y) - 0.5, bool(depth is depths[0]))


def mended(
    diary: Diary, sam: SamAssistant, key: int, image: Image, truth: Rle, patch: Patch | None,
    category: str,
) -> float:  # fmt: skip
    """The IoU after clicks that correct a mask, or after it is drawn by hand."""
    clicks: list[Click] = []
    start = patch
    for _ in range(CLICKS):
        clicks.append(wrong_place(patch, truth))
        patch = sam.propose(key, image, clicks, None, start, category).patch
        diary.do("click")
        diary.do("verify")
        if (iou := iou_of(patch, truth)) >= GOAL:
            return iou
    diary.do("polygon")
    return 1.0


def boxed(
    diary: Diary, sam: SamAssistant, key: int, image: Image, truth: Rle, box: Box, category: str
) -> float:
    """The IoU of a defect that gets a box, and then what it needs."""
    diary.do("box")
    patch = sam.propose(key, image, [], box, None, category).patch
    diary.do("verify")
    iou = iou_of(patch, truth)
    return iou if iou >= GOAL else mended(diary, sam, key, image, truth, patch, category)


def iou_of(patch: Patch, truth: Rle) -> float:
    return paired_iou(encode_patches([patch], *truth["size"])[0], truth)
