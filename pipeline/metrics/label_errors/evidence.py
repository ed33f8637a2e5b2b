"""What the out-of-fold prediction of one image says of its labels."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.masks import Rle, encode_patches, to_patch
from pipeline.geometry.patches import Mask, Patch
from pipeline.metrics.label_errors.figures import (
    Probabilities,
    Region,
    labelled_region,
    likeliest_other,
    object_figures,
    unlabelled_regions,
)
from pipeline.metrics.label_errors.planted import KINDS, drawn_error
from pipeline.types import Detections, ImageRecord

_LEAST_AREA = 0.25  # of the smallest usual label: smaller regions are left out
_FEWEST_PIXELS = 4.0


@dataclass(frozen=True)
class LabelEvidence:
    """row: of the label among its image's. other: the likeliest other category. figures: (9,) see
    `figures.NAMES`. planted: the number of an error in `planted.KINDS`, and the figures that the
    label has with such an error."""

    row: int
    label: int
    other: int
    figures: list[float]
    planted: list[tuple[int, list[float]]]


@dataclass(frozen=True)
class RegionEvidence:
    """A region that is predicted to be a defect. is_labelled: it touches a label; from these the
    others' probabilities are learned. counts: of the RLE of its mask."""

    figures: list[float]
    category: int
    is_labelled: bool
    counts: str

    def mask(self, size: tuple[int, int]) -> Rle:
        """The region's mask on an image (height, width)."""
        return Rle(size=[*size], counts=self.counts.encode("ascii"))


@dataclass(frozen=True)
class ImageEvidence:
    """All labels of an image, and what is predicted where there is none."""

    labels: list[LabelEvidence]
    regions: list[RegionEvidence]


def image_evidence(
    record: ImageRecord,
    objects: Detections,
    probabilities: Probabilities,
    least_area: float,
    seed: int = 0,
) -> ImageEvidence:
    """The evidence of one image.

    probabilities: (1 + C, H, W) by a model that did not learn from the image. least_area: of
    regions without a label, in pixels.
    """
    masks = objects.masks or ()
    taken = mask_geometry.union(masks, *record.size)
    generator = np.random.default_rng((seed, crc32(record.file_name.encode())))
    labels, regions = [], []
    for row, rle in enumerate(masks):
        patch, label = to_patch(rle), int(objects.labels[row])
        if not patch.pixels.size:
            continue
        labels.append(_label(probabilities, row, patch, label, taken, generator))
        region = labelled_region(probabilities, patch, taken)
        if region is not None:
            regions.append(_region(region, record, True))
    for region in unlabelled_regions(probabilities, taken, least_area):
        regions.append(_region(region, record, False))
    return ImageEvidence(labels, regions)


def usual_least_area(areas: list[int]) -> float:
    """The area in pixels under which an unlabelled region is noise: a quarter of that which 90 % of
    the labels exceed."""
    return max(_FEWEST_PIXELS, _LEAST_AREA * float(np.quantile(areas, 0.1))) if areas else 16.0


def _label(
    probabilities: Probabilities,
    row: int,
    patch: Patch,
    label: int,
    taken: Mask,
    generator: np.random.Generator,
) -> LabelEvidence:
    planted = []
    for number, kind in enumerate(KINDS):
        if kind == "none":
            continue
        drawn = drawn_error(kind, patch, label, taken, len(probabilities) - 1, generator)
        if drawn is not None:
            figures = object_figures(probabilities, *drawn, taken & (kind == "nothing"))
            planted.append((number, figures.tolist()))
    figures = object_figures(probabilities, patch, label, taken)
    other = likeliest_other(probabilities, patch, label)
    return LabelEvidence(row, label, other, figures.tolist(), planted)


def _region(region: Region, record: ImageRecord, is_labelled: bool) -> RegionEvidence:
    rle = encode_patches([region.patch], *record.size)[0]
    counts = rle["counts"].decode("ascii")
    return RegionEvidence(region.values.tolist(), region.category, is_labelled, counts)
