"""Suspects: labels that are likely wrong, and defects that are likely missed, the likeliest first.

What an error looks like on this set is learned from errors that are planted into its own labels.
What a missed defect looks like is learned from the labelled ones, seen as if they had no label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.masks import Rle
from pipeline.metrics.label_errors.error_model import cross_probabilities
from pipeline.metrics.label_errors.evidence import ImageEvidence
from pipeline.types import GOOD, Dataset, ImageRecord

SuspectKind = Literal[
    "empty mask", "missed defect", "mask on nothing", "wrong category", "loose or shifted outline"
]
_OF_KIND: tuple[SuspectKind, ...] = (
    "mask on nothing", "wrong category", "loose or shifted outline",
)  # fmt: skip
_OF_EACH = 0.1 / 4  # share of the labels with each kind of error: one label in ten has one
_PRIORS = (1 - 3 * _OF_EACH, *([_OF_EACH] * 3))  # of a label; the fourth kind is one that is missed
FEWEST_LABELS = 20  # from which errors are learned


@dataclass(frozen=True)
class Suspect:
    """A label or a place to look at. suspicion: probability in [0, 1] that it is an error, if one
    in ten labels is. row: of the label on its image; None for a missed defect and an empty mask.
    category: the label's, or the one that is predicted. suggestion: the category that is predicted
    in place of the label's; None for other errors. mask: of a missed defect."""

    record: ImageRecord
    kind: SuspectKind
    suspicion: float
    row: int | None = None
    category: int | None = None
    suggestion: int | None = None
    mask: Rle | None = None


def suspects(dataset: Dataset, evidence: Mapping[int, ImageEvidence]) -> list[Suspect]:
    """Every label and every unlabelled region, the most suspicious first.

    evidence: by image id. An image of a defect without any mask comes before all. Each suspicion is
    by models that other groups of images gave. Without enough labels to learn from, a region's is
    its probability, and labels are not ranked.
    """
    labels = _labels(dataset, evidence)
    listed = [*_empty_masks(dataset), *labels, *_regions(dataset, evidence, len(labels))]
    return sorted(listed, key=lambda one: -one.suspicion)


def _empty_masks(dataset: Dataset) -> list[Suspect]:
    return [
        Suspect(record, "empty mask", 1.0)
        for record in dataset.records
        if record.defect not in (GOOD, "") and not len(dataset.on(record))
    ]


def _labels(dataset: Dataset, evidence: Mapping[int, ImageEvidence]) -> list[Suspect]:
    listed = [
        (record, label)
        for record in dataset.records
        if record.id in evidence
        for label in evidence[record.id].labels
    ]
    if len(listed) < FEWEST_LABELS:
        return []
    examples = [
        (record.group, kind, figures)
        for record, label in listed
        for kind, figures in [(0, label.figures), *label.planted]
    ]
    groups, numbers, figures = zip(*examples, strict=True)
    kinds = np.array(numbers)
    as_they_are = kinds == 0
    probabilities = cross_probabilities(
        np.array(figures), kinds, _numbers(groups), _PRIORS, as_they_are
    )[as_they_are]
    result = []
    for (record, label), shares in zip(listed, probabilities, strict=True):
        if not shares.any():  # no other group of images speaks for it
            continue
        kind = _OF_KIND[int(shares[1:].argmax())]
        other = label.other if kind == "wrong category" else None
        suspicion = float(1 - shares[0])
        result.append(Suspect(record, kind, suspicion, label.row, label.label, other))
    return result


def _regions(dataset: Dataset, evidence: Mapping[int, ImageEvidence], labels: int) -> list[Suspect]:
    """The regions without a label. labels: how many there are in the set, of which a share is
    missed, so that few of many regions are taken for defects."""
    listed = [
        (record, region)
        for record in dataset.records
        if record.id in evidence
        for region in evidence[record.id].regions
    ]
    unlabelled = np.array([not region.is_labelled for _, region in listed], bool)
    if not unlabelled.any():
        return []
    figures = np.array([region.figures for _, region in listed])
    plain = 1 / (1 + np.exp(-figures[:, 0]))  # the mean probability
    suspicion = plain
    if (~unlabelled).sum() >= FEWEST_LABELS:
        labelled = (~unlabelled).astype(np.int64)
        missed = min(0.5, _OF_EACH * labels / int(unlabelled.sum()))
        groups = _numbers([record.group for record, _ in listed])
        learned = cross_probabilities(figures, labelled, groups, (1 - missed, missed), unlabelled)
        suspicion = np.where(learned.sum(axis=1) > 0, learned[:, 1], plain)
    return [
        Suspect(
            record, "missed defect", float(suspicion[number]), category=region.category,
            mask=region.mask(record.size),
        )
        for number, (record, region) in enumerate(listed)
        if not region.is_labelled
    ]  # fmt: skip


def _numbers(groups: Sequence[str]) -> NDArray[np.int64]:
    return np.asarray(np.unique(groups, return_inverse=True)[1], np.int64)


def mixed_up(listed: Sequence[Suspect], categories: Sequence[str]) -> dict[str, int]:
    """Pairs of categories, as `one / other`, with the number of labels of the one that are more
    likely the other; the most frequent first."""
    pairs: dict[str, int] = {}
    for one in listed:
        if one.suggestion is not None and one.category is not None and one.suspicion > 0.5:
            name = f"{categories[one.category]} / {categories[one.suggestion]}"
            pairs[name] = pairs.get(name, 0) + 1
    return dict(sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0])))
