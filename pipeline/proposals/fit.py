"""What candidates on labelled photos teach: which are defects, how good their masks are, whose mask
is the better one, and from which probability a candidate becomes a label.

Every photo is judged by models that did not learn from it, and every figure by a fit to the
candidates of other photos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.metrics.found_masks import true_ious
from pipeline.metrics.label_quality import (
    MOST_FALSE_LABELS,
    ImageLabels,
    LabelQuality,
    compare_labels,
    label_quality,
)
from pipeline.metrics.operating_points import ImageOutcome
from pipeline.models.sam.calibration import Calibration, cross_expected
from pipeline.proposals.candidates import Candidate, table_of, without
from pipeline.proposals.choices import Finder, Gain, NamingGain, Refinement
from pipeline.proposals.naming import Naming, name_evidence, name_out_of_fold
from pipeline.trust.found_masks import DEFECT_IOU
from pipeline.trust.regression import fit_logistic, fit_probability
from pipeline.types import Detections, Rle

MIN_PHOTOS, MIN_CANDIDATES = 10, 20  # for a fit
_GAIN = 0.005  # IoU that a finder, or SAM's masks, must add to be used
_COST = 0.1  # label IoU that one false label an image is worth
_LEAST_MASKS = 5  # of a category, to choose for it alone
_LIMITS = tuple(np.round(np.arange(0.05, 1.0, 0.05), 2).tolist())


@dataclass(frozen=True)
class LabelledImage:
    """A photo with true objects, and the candidates on it. group: photos of one object share it."""

    group: str
    truth: Detections
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class LabellerFit:
    """probability: that a candidate is a defect. expected_iou: of its mask with the defect that it
    is on, whatever the category, 0 for a false one. name_probability: that its category is right.
    confidence: the probability from which it is a label. true_iou, tested_iou, is_named,
    tested_name, tested_probability: (N,) of each candidate in order; those tested by fits to other
    photos. quality: of the labels out of fold. outcomes: of each photo, by the tested
    probabilities. naming: of new candidates; None where the finders' own categories are as good.
    naming_gain: None where it could not be tried. finders: those beside the segmenter that are
    used; gains: of each that was tried."""

    refinement: Refinement
    probability: Calibration
    expected_iou: Calibration
    name_probability: Calibration
    confidence: float
    true_iou: NDArray[np.float64]
    tested_iou: NDArray[np.float32]
    is_named: NDArray[np.bool_]
    tested_name: NDArray[np.float32]
    tested_probability: NDArray[np.float32]
    quality: LabelQuality
    outcomes: tuple[ImageOutcome, ...]
    images: tuple[LabelledImage, ...]
    naming: Naming | None = None
    naming_gain: NamingGain | None = None
    finders: tuple[Finder, ...] = ()
    gains: Mapping[Finder, Gain] = field(default_factory=dict)

    @property
    def iou_error(self) -> float:
        """Mean absolute error of the expected IoU of the labels."""
        kept = self.tested_probability >= self.confidence
        errors = np.abs(self.tested_iou - self.true_iou)[kept]
        return float(errors.mean()) if len(errors) else 1.0


def fit_labeller(
    images: Sequence[LabelledImage], categories: Sequence[str], finders: Sequence[Finder]
) -> LabellerFit | None:
    """The fit with the finders that gain. None where candidates are too few.

    A finder beside the segmenter is used where the labels without it are worse on photos that
    nothing learned from: by label IoU, or by the error of the expected IoU.
    """
    best = _fit(images, categories)
    if best is None:
        return None
    used, gains = list(finders), {}
    for finder in finders:
        left = [replace(i, candidates=tuple(without(i.candidates, finder))) for i in images]
        other = _fit(left, categories)
        if other is None:
            continue
        gain = (best.quality.label_iou or 0.0) - (other.quality.label_iou or 0.0)
        truer = other.iou_error - best.iou_error
        gains[finder] = Gain(round(gain, 4), round(truer, 4))
        if gain < _GAIN and truer < _GAIN:
            images, best = left, other
            used.remove(finder)
    return replace(best, finders=tuple(used), gains=gains)


def _fit(images: Sequence[LabelledImage], categories: Sequence[str]) -> LabellerFit | None:
    named, naming_gain, naming = name_out_of_fold(
        [image.candidates for image in images],
        [image.truth for image in images],
        [image.group for image in images],
    )
    images = [
        replace(image, candidates=tuple(own)) for image, own in zip(images, named, strict=True)
    ]
    rows = [row for image in images for row in image.candidates]
    groups = [image.group for image in images for _ in image.candidates]
    if len(rows) < MIN_CANDIDATES or len(set(groups)) < MIN_PHOTOS:
        return None
    names = [categories[row.label] for row in rows]
    refinement = choose_refinement(images, categories)
    flags, ious, is_named = _truth(images, categories, refinement)
    table = table_of(rows)
    numbers, right = flags.astype(float).tolist(), is_named.astype(float).tolist()
    probabilities = cross_expected(table, numbers, groups, names, fit_probability)
    expected = cross_expected(table, ious.tolist(), groups, names, fit_logistic)
    name_table, name_categories = name_evidence(table, names)
    confidence, quality = _choose_confidence(images, categories, refinement, probabilities)
    return LabellerFit(
        refinement,
        fit_probability(table, numbers, names),
        fit_logistic(table, ious.tolist(), names),
        fit_probability(name_table, right, name_categories),
        confidence,
        ious,
        expected,
        is_named,
        cross_expected(name_table, right, groups, name_categories, fit_probability),
        probabilities,
        quality,
        _outcomes(images, refinement, categories, probabilities),
        tuple(images),
        naming,
        naming_gain,
    )


def choose_refinement(images: Sequence[LabelledImage], categories: Sequence[str]) -> Refinement:
    """Compare both masks of each candidate that lies on a defect with that defect."""
    gains: dict[str, list[float]] = {}
    for image in images:
        true = image.truth.masks or ()
        for row in image.candidates:
            if row.region_mask is None or row.sam_mask is None or not true:
                continue
            shared = mask_geometry.iou([row.region_mask, row.sam_mask], true)
            best = int(shared.max(axis=0).argmax())
            if shared[:, best].max() >= DEFECT_IOU:
                name = categories[row.label]
                gains.setdefault(name, []).append(float(shared[1, best] - shared[0, best]))
    every = [gain for own in gains.values() for gain in own]
    overall = float(np.mean(every)) if every else 0.0
    enough = {name: own for name, own in gains.items() if len(own) >= _LEAST_MASKS}
    return Refinement(
        overall > _GAIN,
        {name: float(np.mean(own)) > _GAIN for name, own in sorted(enough.items())},
        round(overall, 4),
        {name: round(float(np.mean(own)), 4) for name, own in sorted(gains.items())},
    )


def as_labels(
    rows: Sequence[Candidate],
    probabilities: NDArray[np.floating],
    confidence: float,
    refinement: Refinement,
    categories: Sequence[str],
) -> tuple[Detections, NDArray[np.int64]]:
    """The candidates that become labels, the likeliest first, and their numbers (N,). Of two whose
    masks share half of the smaller one, the likelier stays: one defect has one label."""
    masks = [row.mask(refinement.of(categories[row.label])) for row in rows]
    kept: list[int] = []
    for row in np.argsort(-np.asarray(probabilities), kind="stable").tolist():
        if probabilities[row] < confidence or not mask_geometry.area(masks[row]):
            continue
        if not any(_is_same(masks[row], masks[other]) for other in kept):
            kept.append(row)
    chosen = [masks[row] for row in kept]
    if not kept:
        return Detections.none(), np.zeros(0, np.int64)
    return (
        Detections(
            mask_geometry.bounding_boxes(chosen),
            np.array([rows[row].label for row in kept], np.int64),
            np.asarray(probabilities, np.float32)[kept],
            tuple(chosen),
            finders=tuple(rows[row].finder for row in kept),
        ),
        np.array(kept, np.int64),
    )


def _is_same(one: Rle, other: Rle) -> bool:
    both = mask_geometry.merged([one, other], intersect=True)
    smaller = min(mask_geometry.area(one), mask_geometry.area(other))
    return both is not None and mask_geometry.area(both) > 0.5 * smaller


def _truth(
    images: Sequence[LabelledImage], categories: Sequence[str], refinement: Refinement
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.bool_]]:
    """Of each candidate, whether it lies on a defect, the IoU with the defect that it is matched
    with, 0 without one, and whether the defect that it shares most with has its category."""
    flags, ious, named = [], [], []
    for image in images:
        rows, true = image.candidates, image.truth
        masks = [row.mask(refinement.of(categories[row.label])) for row in rows]
        shared = mask_geometry.iou(masks, true.masks or ())
        labels = np.array([row.label for row in rows], np.int64)
        scores = np.array([row.figures["map_mean"] for row in rows], np.float32)
        any_category = np.zeros(len(rows), np.int64), np.zeros(len(true), np.int64)
        flags.append((shared >= DEFECT_IOU).any(axis=1))
        ious.append(true_ious(shared, *any_category, scores))
        best = true.labels[shared.argmax(axis=1)] if shared.size else labels + 1
        named.append((best == labels) & (shared > 0).any(axis=1))
    return np.concatenate(flags), np.concatenate(ious), np.concatenate(named)


def _choose_confidence(
    images: Sequence[LabelledImage],
    categories: Sequence[str],
    refinement: Refinement,
    probabilities: NDArray[np.float32],
) -> tuple[float, LabelQuality]:
    """The limit with the highest label IoU, less what false labels cost, among those with at most
    0.1 of them an image. Of several that are as good, the middle one is the furthest from the false
    candidates below and the defects above."""
    tried = []
    for limit in _LIMITS:
        compared: list[ImageLabels] = []
        for image, own in _by_image(images, probabilities):
            labels, _ = as_labels(image.candidates, own, limit, refinement, categories)
            compared.append(compare_labels(image.truth, labels, categories, image.group))
        tried.append((limit, label_quality(compared)))
    fewest = max(MOST_FALSE_LABELS, min(quality.false_labels for _, quality in tried))
    allowed = [one for one in tried if one[1].false_labels <= fewest]
    worth = [(one[1].label_iou or 0.0) - _COST * one[1].false_labels for one in allowed]
    best = [one for one, own in zip(allowed, worth, strict=True) if own > max(worth) - 1e-9]
    return best[len(best) // 2]


def _by_image(
    images: Sequence[LabelledImage], values: NDArray[np.float32]
) -> list[tuple[LabelledImage, NDArray[np.float32]]]:
    ends = np.cumsum([len(image.candidates) for image in images])
    return list(zip(images, np.split(values, ends[:-1]), strict=True))


def _outcomes(
    images: Sequence[LabelledImage],
    refinement: Refinement,
    categories: Sequence[str],
    probabilities: NDArray[np.float32],
) -> tuple[ImageOutcome, ...]:
    """For each photo, the probabilities at which its defects are found and false labels appear."""
    outcomes = []
    for image, own in _by_image(images, probabilities):
        masks = [row.mask(refinement.of(categories[row.label])) for row in image.candidates]
        on = mask_geometry.iou(masks, image.truth.masks or ()) >= DEFECT_IOU
        found = tuple(round(float(own[column].max(initial=0.0)), 6) for column in on.T)
        false = own[~on.any(axis=1)] if len(own) else own
        scores = tuple(sorted((round(float(value), 6) for value in own), reverse=True))
        outcomes.append(
            ImageOutcome(image.group, found, tuple(round(float(v), 6) for v in false), scores)
        )
    return tuple(outcomes)
