"""How good a set of labels is, defect by defect: its masks against the true ones, a miss with 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from pipeline.geometry import masks as mask_geometry
from pipeline.metrics.intervals import bootstrap_mean
from pipeline.types import Detections, Rle

FOUND_IOU = 0.5  # a defect is found by a mask of this IoU
MOST_FALSE_LABELS = 0.1  # an image, that a choice of limits allows
Interval = tuple[float, float]


@dataclass(frozen=True)
class DefectLabel:
    """One true defect. iou: with the mask that is matched with it, whatever its category; 0 without
    one. is_named: that mask has its category. is_touched: it has a pixel of any mask."""

    category: str
    area: int
    iou: float
    is_named: bool
    is_touched: bool


@dataclass(frozen=True)
class ImageLabels:
    """The labels of one image. false: masks that touch no defect. shared, united: pixels of all
    true and all predicted masks. group: images of one object share it."""

    group: str
    defects: tuple[DefectLabel, ...]
    false: int
    shared: int
    united: int


@dataclass(frozen=True)
class LabelQuality:
    """Figures over images. label_iou: mean IoU of the true defects, a miss 0; named_label_iou: a
    wrong category counts as a miss too. found, touched: defects with an IoU of 0.5, with a pixel.
    false_labels: masks on no defect, an image. pixel_iou: of all pixels of all images. Those of
    defects are None where there is none; intervals are of 95 % over groups."""

    images: int
    defects: int
    label_iou: float | None
    label_iou_interval: Interval | None
    named_label_iou: float | None
    found: int
    touched: int
    false_labels: float
    pixel_iou: float | None


def compare_labels(
    truth: Detections, predicted: Detections, categories: Sequence[str], group: str
) -> ImageLabels:
    """The labels of one image against its true objects; both have masks of the image's size.

    Masks and defects are matched one to one with the largest sum of IoU. categories: names by
    label, of both.
    """
    true_masks, masks = truth.masks or (), predicted.masks or ()
    ious = mask_geometry.iou(masks, true_masks)
    partner, touching = {}, ious > 0
    if ious.size:
        rows, columns = linear_sum_assignment(ious, maximize=True)
        partner = {int(c): int(r) for r, c in zip(rows, columns, strict=True) if ious[r, c] > 0}
    defects = tuple(
        DefectLabel(
            categories[int(truth.labels[column])],
            mask_geometry.area(mask),
            float(ious[partner[column], column]) if column in partner else 0.0,
            column in partner and bool(predicted.labels[partner[column]] == truth.labels[column]),
            bool(touching[:, column].any()),
        )
        for column, mask in enumerate(true_masks)
    )
    both, either = _pixels(true_masks, masks)
    return ImageLabels(group, defects, int((~touching.any(axis=1)).sum()), both, either)


def label_quality(images: Sequence[ImageLabels]) -> LabelQuality:
    """The figures of many images. Raises ValueError for none."""
    if not images:
        raise ValueError("there is no image")
    pairs = [(defect, image.group) for image in images for defect in image.defects]
    ious = _ious(images)
    named = [defect.iou * defect.is_named for defect, _ in pairs]
    united = sum(image.united for image in images)
    return LabelQuality(
        images=len(images),
        defects=len(pairs),
        label_iou=_mean(ious),
        label_iou_interval=_interval(ious, [group for _, group in pairs]) if pairs else None,
        named_label_iou=_mean(named),
        found=sum(iou >= FOUND_IOU for iou in ious),
        touched=sum(defect.is_touched for defect, _ in pairs),
        false_labels=round(false_labels(images), 4),
        pixel_iou=round(sum(i.shared for i in images) / united, 4) if united else None,
    )


def label_iou(images: Sequence[ImageLabels]) -> float | None:
    """Mean IoU of the true defects, a miss 0; None without one. As `label_quality` has it, but
    without the interval, which takes long."""
    return _mean(_ious(images))


def false_labels(images: Sequence[ImageLabels]) -> float:
    """Masks on no defect, an image. Raises ValueError for no image."""
    if not images:
        raise ValueError("there is no image")
    return sum(image.false for image in images) / len(images)


def _ious(images: Sequence[ImageLabels]) -> list[float]:
    return [defect.iou for image in images for defect in image.defects]


def _pixels(true: Sequence[Rle], predicted: Sequence[Rle]) -> tuple[int, int]:
    """Pixels in both, and in either."""
    whole, own = mask_geometry.merged(true), mask_geometry.merged(predicted)
    present = [rle for rle in (whole, own) if rle is not None]
    either = mask_geometry.merged(present)
    both = mask_geometry.merged(present, intersect=True) if len(present) > 1 else None
    return (
        mask_geometry.area(both) if both else 0,
        mask_geometry.area(either) if either else 0,
    )


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if len(values) else None


def _interval(values: Sequence[float], groups: Sequence[str]) -> Interval:
    low, high = bootstrap_mean(values, groups=groups)
    return round(low, 4), round(high, 4)
