"""New labels of a labeller enter a session as actions: they replace what nobody has judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.masks import Rle
from pipeline.review.actions import Move, StaleError, Suggestion
from pipeline.review.schema import UNREVIEWED
from pipeline.review.store import ReviewStore
from pipeline.review.tables import SavedObject, figures_of, finder_at
from pipeline.review.values import Key, with_mask
from pipeline.types import Detections

KIND = "propose"  # of the actions
_SHARED = 0.5  # of the smaller mask, from which a new label is of an object that is judged already
_TRIES = 5  # while a person goes on judging


@dataclass(frozen=True)
class ProposedLabels:
    """images, objects: where new labels were proposed, and how many."""

    images: int
    objects: int


def propose(
    store: ReviewStore, categories: Sequence[str], labels: Mapping[int, Detections],
    missed: Mapping[int, float], who: str, notes: Mapping[str, str],
) -> ProposedLabels:  # fmt: skip
    """Write new labels into a session, one action an image, all or none.

    categories: names of the labels. labels: by the image's id in the session. An image that a
    person marked stays as it is, and so does each object that a person has judged; a new label that
    shares half of the smaller mask with one of these is left out. missed: by image, the probability
    that it lacks a label. notes: see `ReviewStore.act_all`. Raises DataError when the system
    refuses.
    """
    label_of = [
        store.categories.index(name) if name in store.categories else store.add_category(name)
        for name in categories
    ]
    for last in range(_TRIES, 0, -1):
        moves = list(_moves(store, labels, label_of))
        try:
            store.act_all(who, moves, notes, missed)
            break
        except StaleError:
            if last == 1:
                raise
    objects = sum(len(move.suggested) for move in moves)
    return ProposedLabels(len(moves), objects)


def _moves(
    store: ReviewStore, labels: Mapping[int, Detections], label_of: Sequence[int]
) -> Iterator[Move]:
    for number, objects in labels.items():
        image = store.image(number)
        if image.state != "unreviewed":
            continue
        there = store.objects_on(image.id)
        old = [saved for saved in there if saved.code == UNREVIEWED]
        if there and not old:
            continue  # a person has judged all
        masks = [rle for s in there if s not in old and (rle := _mask(s, image.size))]
        suggested = _suggestions(objects, label_of, masks)
        expected = {Key("object", saved.id): saved.revision for saved in old}
        if not suggested and not old:
            continue
        yield Move(KIND, image.id, expected=expected, suggested=suggested,
                   removed=[saved.id for saved in old])  # fmt: skip


def _suggestions(
    objects: Detections, label_of: Sequence[int], judged: Sequence[Rle]
) -> list[Suggestion]:
    found = []
    for row, rle in enumerate(objects.masks or ()):
        if mask_geometry.area(rle) and not any(_shares(rle, other) for other in judged):
            value = with_mask(rle, label_of[int(objects.labels[row])], "unreviewed")
            figures, finder = figures_of(objects, row), finder_at(objects, row)
            found.append(Suggestion(value, figures, finder))
    return found


def _mask(saved: SavedObject, size: tuple[int, int]) -> Rle | None:
    if saved.value is None:
        return None
    rle = saved.value.rle(size)
    return mask_geometry.from_box(saved.value.boxes[0], *size) if rle is None else rle


def _shares(one: Rle, other: Rle) -> bool:
    """Whether two masks share half of the smaller one."""
    areas = np.array([mask_geometry.area(one), mask_geometry.area(other)], np.float64)
    iou = mask_geometry.paired_iou(one, other)
    return bool(iou / (1 + iou) * areas.sum() >= _SHARED * areas.min())
