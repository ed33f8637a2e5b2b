"""Whether labels and defects overlap, in however many pieces each is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.masks import Rle
from pipeline.types import Dataset


@dataclass(frozen=True, kw_only=True)
class Localization:
    """Counts over the images that truth and predictions share.

    A defect is found when a label shares a pixel with it; a label is right when it shares a pixel
    with a defect. An image is labelled when it has a label; it is defective when the truth has a
    defect on it, else good. pixel_iou: IoU in [0, 1] of all labelled and all defective pixels; None
    where both are empty.
    """

    defects: int
    defects_found: int
    labels: int
    labels_on_a_defect: int
    defective_images: int
    defective_images_labelled: int
    good_images: int
    good_images_labelled: int
    pixel_iou: float | None


@dataclass(frozen=True)
class _ImageCounts:
    defects: int
    defects_found: int
    labels: int
    labels_on_a_defect: int
    shared_pixels: int
    united_pixels: int


def localization(truth: Dataset, predictions: Dataset, split: str | None = None) -> Localization:
    """Compare predicted masks with true masks, whatever their categories. Images are matched by
    `file_name`. split: only the images of this split of the truth."""
    predicted = {r.file_name: predictions.on(r).masks or () for r in predictions.records}
    images = [
        _count(truth.on(record).masks or (), predicted[record.file_name], record.size)
        for record in truth.records
        if record.file_name in predicted and (not split or record.split == split)
    ]
    shared = sum(image.shared_pixels for image in images)
    united = sum(image.united_pixels for image in images)
    defective = [image for image in images if image.defects]
    good = [image for image in images if not image.defects]
    return Localization(
        defects=sum(image.defects for image in images),
        defects_found=sum(image.defects_found for image in images),
        labels=sum(image.labels for image in images),
        labels_on_a_defect=sum(image.labels_on_a_defect for image in images),
        defective_images=len(defective),
        defective_images_labelled=sum(image.labels > 0 for image in defective),
        good_images=len(good),
        good_images_labelled=sum(image.labels > 0 for image in good),
        pixel_iou=round(shared / united, 4) if united else None,
    )


def _count(true: Sequence[Rle], predicted: Sequence[Rle], size: tuple[int, int]) -> _ImageCounts:
    touching = mask_geometry.iou(predicted, true) > 0
    one, other = (mask_geometry.union(masks, *size) for masks in (true, predicted))
    return _ImageCounts(
        defects=len(true),
        defects_found=int(touching.any(axis=0).sum()),
        labels=len(predicted),
        labels_on_a_defect=int(touching.any(axis=1).sum()),
        shared_pixels=int(np.count_nonzero(one & other)),
        united_pixels=int(np.count_nonzero(one | other)),
    )
