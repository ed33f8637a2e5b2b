from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from review_sessions import draw_labels, opened, session, square

from pipeline.errors import DataError
from pipeline.review.actions import Move, StaleError
from pipeline.review.store import ReviewStore
from pipeline.review.values import ImageValue, Key, ObjectValue, Value, object_value


def value_of(store: ReviewStore, number: int) -> ObjectValue | None:
    ((text,),) = store.rows("SELECT value FROM objects WHERE id = ?", number)
    return object_value(None if text is None else str(text))


def state_of(store: ReviewStore, number: int) -> str:
    value = value_of(store, number)
    return value.state if value else "none"


def judge(store: ReviewStore, number: int, state: str, who: str = "Ann") -> None:
    value = value_of(store, number)
    assert value is not None
    ((image,),) = store.rows("SELECT image FROM objects WHERE id = ?", number)
    after: dict[Key, Value] = {Key("object", number): value.model_copy(update={"state": state})}
    store.act(who, Move(state, int(str(image)), number, after))


def test_a_set_without_objects_has_nothing_to_undo(tmp_path: Path) -> None:
    with opened(tmp_path, images=1) as store:
        assert store.revision == 0
        assert store.undo("Ann") is None
        assert store.redo("Ann") is None


def test_an_action_is_undone_and_done_again_after_a_restart(tmp_path: Path) -> None:
    path = session(draw_labels(tmp_path))
    with ReviewStore(path) as store:
        judge(store, 1, "accepted")
        judge(store, 2, "rejected")
        store.undo("Ann")
    with ReviewStore(path) as store:
        assert (state_of(store, 1), state_of(store, 2)) == ("accepted", "unreviewed")
        assert (store.can_undo, store.can_redo) == (True, True)
        store.redo("Ben")
        assert state_of(store, 2) == "rejected"
        assert [action.kind for action in store.actions()] == [
            "accepted", "rejected", "undo", "redo",
        ]  # fmt: skip
        assert [action.target for action in store.actions()] == [None, None, 2, 2]


def test_a_new_action_ends_what_a_redo_can_do(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        judge(store, 1, "accepted")
        store.undo("Ann")
        judge(store, 2, "accepted")
        assert not store.can_redo
        assert store.redo("Ann") is None


def test_an_added_object_is_gone_after_undo_and_back_after_redo(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        action = store.act("Ann", Move("add", 3, added=[square(1, 1)]))
        assert action is not None
        assert action.object == 5  # four objects before it
        store.undo("Ann")
        assert value_of(store, 5) is None
        store.redo("Ann")
        assert value_of(store, 5) == square(1, 1)


def test_what_changes_nothing_is_no_action(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.act("Ann", Move("none", 1)) is None
        judge(store, 1, "unreviewed")
        assert store.revision == 0


def test_the_second_of_two_windows_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        key = Key("object", 1)
        judge(store, 1, "accepted")
        move = Move("edit", 1, 1, {key: square(9, 9)}, expected={key: 0})  # it is of revision 1
        with pytest.raises(StaleError, match="object 1 was changed in another window"):
            store.act("Ben", move)
        assert store.revision == 1


@pytest.mark.parametrize(
    ("image", "after", "fault"),
    [
        (1, {Key("object", 99): square(1, 1)}, "object 99 is not on image 1"),
        (2, {Key("object", 1): square(1, 1)}, "object 1 is not on image 2"),
        (1, {Key("object", 1): None}, "never removed"),
        (1, {Key("object", 1): square(1, 1, category=2)}, "there is no category 2"),
        (1, {Key("object", 1): ImageValue(image_state="good")}, "an object needs"),
        (1, {Key("image", 2): ImageValue(image_state="good")}, "on one image"),
        (1, {Key("image", 1): square(1, 1)}, "an image needs"),
        (9, {Key("image", 9): ImageValue(image_state="good")}, "there is no image 9"),
        (1, {Key("object", 1): square(1, 1).model_copy(update={"counts": "11"})}, "runs cover"),
        (1, {Key("object", 1): square(1, 1).model_copy(update={"counts": "\u00e9"})}, "counts"),
        (1, {Key("object", 1): square(1, 1).model_copy(update={"box": (0, 0, 65, 9)})}, "inside"),
    ],
)
def test_values_that_do_not_fit_are_refused_and_change_nothing(
    tmp_path: Path, image: int, after: dict[Key, Value], fault: str
) -> None:
    with opened(tmp_path) as store:
        with pytest.raises(ValueError, match=fault):
            store.act("Ann", Move("edit", image, None, after))
        assert store.revision == 0
        assert state_of(store, 1) == "unreviewed"


def test_a_damaged_session_is_one_line(tmp_path: Path) -> None:
    path = session(draw_labels(tmp_path))
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\xff" * 8192
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"is damaged .*; put back a copy"):
        ReviewStore(path)


def test_a_foreign_database_is_no_session(tmp_path: Path) -> None:
    path = tmp_path / "a.review"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE session (name TEXT)")
    database.commit()
    database.close()
    with pytest.raises(DataError, match="its tables are others"):
        ReviewStore(path)


def test_a_redo_of_nothing_in_the_file_is_damage(tmp_path: Path) -> None:
    path = session(draw_labels(tmp_path))
    database = sqlite3.connect(path)
    database.execute("INSERT INTO actions VALUES (1, '', '', 'redo', NULL, 1, NULL, '{}', '{}')")
    database.commit()
    database.close()
    with pytest.raises(DataError, match="is damaged"):
        ReviewStore(path)


def test_a_missing_session_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such session"):
        ReviewStore(tmp_path / "no.review")
