"""New labels of a labeller in a session: what a person judged stays, and undo takes them back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from review_sessions import CATEGORIES, SIZE, block, opened, square

from pipeline.geometry.masks import Rle
from pipeline.review.actions import Move
from pipeline.review.finished import finished_images
from pipeline.review.proposing import propose
from pipeline.review.schema import ACCEPTED, CHANGED, UNREVIEWED
from pipeline.review.store import ReviewStore
from pipeline.review.values import ImageValue, Key, Value, with_mask
from pipeline.types import Detections

IMAGE = 1  # it begins with the objects 1 at (4, 6) and 2 at (24, 14)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReviewStore]:
    with opened(tmp_path) as store:
        yield store


def new_labels(*masks: Rle) -> Detections:
    found = Detections.from_masks(masks, 0)
    iou = np.linspace(0.5, 0.9, len(masks)).astype(np.float32)
    return Detections(
        found.boxes, found.labels, masks=found.masks, quality={"expected_iou": iou},
        finders=("detector",) * len(masks),
    )  # fmt: skip


def judge(store: ReviewStore, number: int, state: str = "accepted", image: int = IMAGE) -> None:
    value = store.object_by_id(number).value
    assert value is not None
    after = {Key("object", number): value.model_copy(update={"state": state})}
    store.act("Ann", Move("accept", image, number, after))


def codes(store: ReviewStore, image: int = IMAGE) -> dict[int, int | None]:
    return {saved.id: saved.code for saved in store.objects_on(image)}


def test_new_labels_take_the_place_of_those_that_nobody_judged(store: ReviewStore) -> None:
    judge(store, 1)
    labels = {IMAGE: new_labels(block(5, 6), block(40, 30))}  # the first is the accepted one again
    made = propose(store, CATEGORIES, labels, {IMAGE: 0.25}, "learn 1", {"proposed": "1"})
    assert (made.images, made.objects) == (1, 1)
    assert codes(store) == {1: ACCEPTED, 5: UNREVIEWED}
    assert store.object_by_id(5).figures == pytest.approx({"expected_iou": 0.9})
    assert [store.object_by_id(number).finder for number in (1, 5)] == ["", "detector"]
    assert (store.image(IMAGE).missed, store.note("proposed")) == (0.25, "1")
    store.undo("Ann")
    assert codes(store) == {1: ACCEPTED, 2: UNREVIEWED}
    store.redo("Ann")
    judge(store, 5)
    assert codes(store) == {1: ACCEPTED, 5: ACCEPTED}
    after = {Key("object", 5): square(30, 30)}
    store.act("Ann", Move("edit", IMAGE, 5, after))
    assert codes(store)[5] == CHANGED


def test_an_image_that_a_person_marked_or_judged_as_a_whole_stays(store: ReviewStore) -> None:
    for number in (1, 2):
        judge(store, number)
    mark = {Key("image", 3): ImageValue(image_state="good")}
    store.act("Ann", Move("good", 3, after=mark))
    before = store.revision
    labels = {1: new_labels(block(40, 30)), 3: new_labels(block(40, 30))}
    assert propose(store, CATEGORIES, labels, {}, "learn 1", {}).images == 0
    assert store.revision == before


def test_a_new_category_of_the_labeller_is_added(store: ReviewStore) -> None:
    labels = {IMAGE: new_labels(block(40, 30))}
    propose(store, ("dent", *CATEGORIES), labels, {}, "learn 1", {})
    assert store.categories == (*CATEGORIES, "dent")
    value = store.object_by_id(5).value
    assert value is not None
    assert value.category == 2


def test_actions_of_many_images_are_written_all_or_not_at_all(store: ReviewStore) -> None:
    outside = with_mask(block(0, 0, 60, (64, 64)), 0, "unreviewed")
    moves = [Move("propose", 1, removed=[1]), Move("propose", 2, added=[outside])]
    with pytest.raises(ValueError, match="not inside its image"):
        store.act_all("learn", moves, {"proposed": "1"}, {})
    assert (store.revision, store.note("proposed"), store.can_undo) == (0, None, False)
    assert codes(store) == {1: UNREVIEWED, 2: UNREVIEWED}


def test_what_a_person_judged_is_never_removed(store: ReviewStore) -> None:
    judge(store, 1)
    with pytest.raises(ValueError, match="rejected, and never removed"):
        store.act("learn", Move("propose", IMAGE, removed=[1]))


def test_only_whole_images_are_learned_from(store: ReviewStore, tmp_path: Path) -> None:
    """Of image 1 one of two objects is judged, image 2 is judged as a whole, image 3 is good."""
    judge(store, 1)
    judge(store, 3, image=2)
    judge(store, 4, "rejected", image=2)
    mark = {Key("image", 3): ImageValue(image_state="good")}
    store.act("Ann", Move("good", 3, after=mark))
    found = finished_images(store, tmp_path / "images")
    assert [record.id for record in found.dataset.records] == [2, 3]
    assert found.masks == 1
    judge(store, 2)
    assert finished_images(store, tmp_path / "images").sha256 != found.sha256


def test_a_finished_image_with_a_box_alone_is_left_out(store: ReviewStore, tmp_path: Path) -> None:
    value = store.object_by_id(1).value
    assert value is not None
    after: dict[Key, Value] = {
        Key("object", 1): value.model_copy(update={"counts": None, "state": "accepted"}),
        Key("image", IMAGE): ImageValue(image_state="checked"),
    }
    store.act("Ann", Move("check", IMAGE, after=after))
    judge(store, 2)
    found = finished_images(store, tmp_path / "images")
    assert (found.dataset.records, found.boxes_alone) == ((), 1)


def test_a_label_outside_of_its_image_is_refused(store: ReviewStore) -> None:
    labels = {IMAGE: new_labels(block(60, 60, 6, (80, 80)))}
    with pytest.raises(ValueError, match="not inside its image"):
        propose(store, CATEGORIES, labels, {}, "learn 1", {})
    assert SIZE == (48, 64)
