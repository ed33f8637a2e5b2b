"""`learn` as a user has it: review some images, learn, and find new labels on the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from learned_runs import bright_maps, reviewed_run
from review_sessions import with_mask_of
from small import CallPipeline

from pipeline.formats.coco import read_coco
from pipeline.io.locks import folder_lock
from pipeline.models.segmentation.crops import CropSampler
from pipeline.review.actions import Move
from pipeline.review.schema import ACCEPTED, UNREVIEWED
from pipeline.review.store import ReviewStore
from pipeline.review.values import ImageValue, Key, Value

pytestmark = pytest.mark.slow
WORDS = ["--steps", "1", "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module", autouse=True)
def _bright() -> Iterator[None]:
    with bright_maps():
        yield


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return reviewed_run(tmp_path)


def judge(run: Path, image: int, state: str = "accepted", mark: bool = True) -> None:
    """Judge all objects of an image, and mark it."""
    with ReviewStore(run / "labels" / "instances.review") as store:
        after: dict[Key, Value] = {
            Key("object", saved.id): saved.value.model_copy(update={"state": state})
            for saved in store.objects_on(image)
            if saved.value
        }
        if mark:
            name = "checked" if state == "accepted" else "good"
            after[Key("image", image)] = ImageValue.model_validate({"image_state": name})
        store.act("Ann", Move("check", image, after=after))


def rows(run: Path, image: int) -> list[tuple[object, ...]]:
    """All that a session has of an image's objects."""
    with ReviewStore(run / "labels" / "instances.review") as store:
        return store.rows("SELECT * FROM objects WHERE image = ? ORDER BY id", image)


def listed(folder: Path) -> dict[str, str]:
    """The split of each image of a set, by its name without folders."""
    path = folder / "data" / "annotations" / "instances.json"
    return {
        Path(r.file_name).name: r.split for r in read_coco(path, folder / "data/images").records
    }


def test_finished_images_are_learned_from_and_the_others_get_new_labels(
    run: Path, call_pipeline: CallPipeline
) -> None:
    judge(run, 1)
    judge(run, 2, "rejected")
    before = {image: rows(run, image) for image in (1, 2, 3, 4)}
    ended = call_pipeline("learn", run, *WORDS, "--json")
    assert ended.code == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["generation"], found["images"], found["masks"]) == (1, 2, 1)
    assert (found["labelled"], found["labels"]) == (2, 3)
    assert (found["proposed_images"], found["proposed"]) == (2, 3)
    assert {image: rows(run, image) for image in (1, 2)} == {1: before[1], 2: before[2]}
    assert [row[0] for row in rows(run, 3)] != [row[0] for row in before[3]]
    with ReviewStore(run / "labels" / "instances.review") as store:
        assert {saved.finder for saved in store.objects_on(3)} == {"segmenter"}
    splits = listed(run / "learned" / "1")
    assert splits["new0.png"] == splits["new1.png"] == "train"
    assert "new2.png" not in splits
    assert len(splits) == 30 + 2
    with ReviewStore(run / "labels" / "instances.review") as store:
        assert [a.kind for a in store.actions()] == ["check", "check", "propose", "propose"]
        new = [saved.id for saved in store.objects_on(4)]
        assert {saved.code for saved in store.objects_on(4)} == {UNREVIEWED}
        store.undo("Ann")
        assert [saved.id for saved in store.objects_on(4)] == [row[0] for row in before[4]]
        store.redo("Ann")
        assert [saved.id for saved in store.objects_on(4)] == new


def test_a_network_never_learns_what_was_held_out_from_it_and_learns_a_new_category(
    run: Path, call_pipeline: CallPipeline
) -> None:
    with ReviewStore(run / "labels" / "instances.review") as store:
        number = store.add_category("dent")
        (saved,) = store.objects_on(1)
        after: dict[Key, Value] = {Key("object", saved.id): with_mask_of(saved, number)}
        store.act("Ann", Move("relabel", 1, saved.id, after))
    assert call_pipeline("learn", run, *WORDS).code == 0
    judge(run, 2)
    assert call_pipeline("learn", run, *WORDS).code == 0
    folders = (run, run / "learned" / "1", run / "learned" / "2")
    cards = [json.loads((folder / "segmenter" / "card.json").read_text()) for folder in folders]
    for earlier, later in pairwise(card["unseen"] for card in cards):
        assert all(set(a) <= set(b) for a, b in zip(earlier, later, strict=True))
        assert not set(later[0]) & set(later[1])
    assert sum(map(len, cards[2]["unseen"])) == sum(map(len, cards[0]["unseen"])) + 2
    assert [card["categories"] for card in cards] == [["crack"], *[["crack", "dent"]] * 2]


def test_a_page_that_is_open_offers_the_labels_and_the_next_call_has_nothing_to_learn(
    run: Path, call_pipeline: CallPipeline
) -> None:
    """Of the two labels of image 4 one is accepted: it stays, and is not learned from, and the
    other alone is proposed again."""
    judge(run, 1)
    session = run / "labels" / "instances.review"
    with ReviewStore(session) as store:
        first, second = store.objects_on(4)
        assert first.value is not None
        after: dict[Key, Value] = {
            Key("object", first.id): first.value.model_copy(update={"state": "accepted"})
        }
        store.act("Ann", Move("accept", 4, first.id, after))
    kept = rows(run, 4)[0]
    loud = [word for word in WORDS if word != "--quiet"]
    with folder_lock(session, "review"):
        ended = call_pipeline("learn", run, *loud, "--json")
    assert "the review is open: its page offers the new labels" in ended.stderr
    found = json.loads(ended.stdout)
    assert (found["images"], "proposed" in found) == (1, False)
    ended = call_pipeline("learn", run, *loud, "--json")
    assert "nothing new was reviewed since generation 1: nothing is done" in ended.stderr
    found = json.loads(ended.stdout)
    assert (found["is_new"], found["proposed_images"], found["proposed"]) == (False, 3, 3)
    assert not (run / "learned" / "2").exists()
    assert rows(run, 4)[0] == kept
    with ReviewStore(session) as store:
        codes = {saved.id: saved.code for saved in store.objects_on(4)}
    assert codes.pop(first.id) == ACCEPTED
    assert list(codes.values()) == [UNREVIEWED]
    assert second.id not in codes


def test_a_stopped_learn_goes_on_with_what_it_began_with(
    run: Path, call_pipeline: CallPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(run, 1)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CropSampler, "batch", stop)
        assert call_pipeline("learn", run, *WORDS).code == 130
    assert not (run / "learned" / "1" / "run.json").exists()
    judge(run, 2)
    ended = call_pipeline("learn", run, "--steps", "1", "--device", "cpu", "--json")
    assert "generation 1 goes on, with what was reviewed when it began" in ended.stderr
    assert json.loads(ended.stdout)["images"] == 1
    assert "new1.png" not in listed(run / "learned" / "1")


@pytest.mark.parametrize(
    ("prepared", "message"),
    [
        ("no review", "no such session; start one with `pipeline review`"),
        ("nothing finished", "has no finished image; mark images good (G) or checked (K)"),
        ("no run", "holds no labeller; give the folder that `pipeline run` wrote"),
    ],
)
def test_too_little_is_one_line(
    run: Path, call_pipeline: CallPipeline, prepared: str, message: str
) -> None:
    if prepared == "no review":
        (run / "labels" / "instances.review").unlink()
    folder = run / "data" if prepared == "no run" else run
    ended = call_pipeline("learn", folder, *WORDS)
    assert (ended.code, message in ended.stderr) == (2, True), ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (run / "learned").exists()
