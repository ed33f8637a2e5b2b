from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from review_server import Client, served
from review_sessions import draw_labels, session

from pipeline.io.heatmaps import write_heatmap
from pipeline.io.images import write_png


@contextmanager
def review(folder: Path) -> Iterator[Client]:
    path = session(draw_labels(folder))
    write_heatmap(folder / "heat", "part1.png", np.eye(48, 64, dtype=np.float32))
    with served(path, folder / "images", heatmaps=folder / "heat") as client:
        yield client


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with review(tmp_path) as client:
        yield client


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One server for all that reads, or is refused."""
    with review(tmp_path_factory.mktemp("review")) as client:
        yield client


def objects_of(client: Client, image: int) -> list[dict[str, object]]:
    body = client.send(f"/api/image/{image}").json
    assert isinstance(body, dict)
    found = body["objects"]
    assert isinstance(found, list)
    return found  # type: ignore[return-value]


def queue(client: Client) -> dict[str, list[float]]:
    body = client.send("/api/queue").body
    head, _, numbers = body.partition(b"\n")
    about = json.loads(head)
    columns = np.frombuffer(numbers, "<f8").reshape(len(about["columns"]), about["count"])
    return {name: column.tolist() for name, column in zip(about["columns"], columns, strict=True)}


def act(client: Client, **request: object) -> int:
    return client.send("/api/act", {"image": 1, **request}).status


def test_the_page_and_its_files_are_served(unchanged: Client) -> None:
    assert b"<title>Review</title>" in unchanged.send("/").body
    answer = unchanged.send("/page/main.js")
    assert (answer.status, answer.headers["content-type"]) == (
        200,
        "text/javascript; charset=utf-8",
    )
    assert unchanged.send("/page/none.js").status == 404


def test_the_queue_has_a_number_for_each_figure(unchanged: Client) -> None:
    columns = queue(unchanged)
    assert columns["id"] == [1, 2, 3, 4]
    assert columns["image"] == [1, 1, 2, 2]
    assert columns["expected_iou"] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert np.isnan(columns["probability"]).all()
    assert columns["x1"] == [10, 30, 10, 30]  # 4 + 6, and 24 + 6


def test_the_queue_says_who_found_each_object(tmp_path: Path) -> None:
    """By the labels, or a person; a row that is damaged says nothing."""
    path = session(draw_labels(tmp_path, objects=3, finders="segmenter detector anomaly"))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE objects SET figures = '{' WHERE id = 2")
        database.execute("""UPDATE objects SET figures = '{"finder": "<b>"}' WHERE id = 5""")
    database.close()
    with served(path, tmp_path / "images") as client:
        mask = {"x": 4, "y": 30, "w": 2, "h": 2, "runs": [0, 4]}
        act(client, kind="add", added=[{"category": 0, "mask": mask}])
        about = client.send("/api/session").json
        assert isinstance(about, dict)
        assert about["finders"] == ["segmenter", "detector", "anomaly", "person"]
        found = dict(zip(queue(client)["id"], queue(client)["finder"], strict=True))
        assert found == pytest.approx(
            {1: 0, 2: np.nan, 3: 2, 4: 0, 5: np.nan, 6: 2, 7: 3}, nan_ok=True
        )
        assert [each["finder"] for each in objects_of(client, 2)] == ["segmenter", "", "anomaly"]


def test_numbers_of_the_queue_begin_at_a_multiple_of_8_bytes(unchanged: Client) -> None:
    body = unchanged.send("/api/queue").body
    assert (body.index(b"\n") + 1) % 8 == 0


def test_an_accepted_object_comes_with_the_changes(client: Client) -> None:
    change = {"id": 2, "revision": 0, "state": "accepted"}
    assert act(client, kind="accept", object=2, objects=[change]) == 200
    news = client.send("/api/changes?since=0").json
    assert isinstance(news, dict)
    assert news["revision"] == 1
    assert [row[:4] for row in news["objects"]] == [[2, 1, 1, 1]]  # type: ignore[union-attr, index]
    assert news["can_undo"] is True
    assert news["actions"][0]["who"] == "Ann"  # type: ignore[index, call-overload]


def test_a_mask_that_is_drawn_is_what_is_read_back(client: Client) -> None:
    mask = {"x": 60, "y": 40, "w": 4, "h": 2, "runs": [1, 3, 0, 4]}
    assert act(client, kind="edit", object=1,
               objects=[{"id": 1, "revision": 0, "mask": mask}]) == 200  # fmt: skip
    (found, _) = objects_of(client, 1)
    assert found["mask"] == {"x": 60, "y": 40, "w": 4, "h": 2, "runs": [1, 7]}
    assert (found["state"], found["box"]) == (2, [60, 40, 64, 42])  # changed


def test_split_merge_and_a_new_object_are_one_action_each(client: Client) -> None:
    one = {"x": 4, "y": 6, "w": 3, "h": 6, "runs": [0, 18]}
    two = {"x": 7, "y": 6, "w": 3, "h": 6, "runs": [0, 18]}
    added = [{"category": 0, "mask": two}]
    change = {"id": 1, "revision": 0, "mask": one}
    assert act(client, kind="split", object=1, objects=[change], added=added) == 200
    assert [each["id"] for each in objects_of(client, 1)] == [1, 2, 5]
    assert client.send("/api/undo", {}).status == 200
    assert [each["id"] for each in objects_of(client, 1)] == [1, 2]
    news = client.send("/api/changes?since=1").json
    assert isinstance(news, dict)
    assert news["removed"] == [5]
    assert client.send("/api/redo", {}).status == 200
    assert [each["id"] for each in objects_of(client, 1)] == [1, 2, 5]


def test_an_image_that_is_good_has_no_object_left(client: Client) -> None:
    changes = [{"id": n, "revision": 0, "state": "rejected"} for n in (1, 2)]
    assert act(client, kind="good", objects=changes, image_state="good") == 200
    assert [each["state"] for each in objects_of(client, 1)] == [4, 4]
    body = client.send("/api/image/1").json
    assert isinstance(body, dict)
    assert body["state"] == "good"


def test_the_second_window_is_answered_that_it_was_late(client: Client) -> None:
    change = {"id": 1, "revision": 0, "state": "accepted"}
    assert act(client, kind="accept", object=1, objects=[change]) == 200
    answer = client.send("/api/act", {"kind": "reject", "image": 1, "objects": [
        {"id": 1, "revision": 0, "state": "rejected"}]})  # fmt: skip
    assert answer.status == 409
    assert b"was changed in another window" in answer.body


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"kind": "explode"},
        {"kind": "edit", "image": 99},
        {"kind": "edit", "image": True},
        {"kind": "edit", "objects": [{"id": 1, "revision": 0, "extra": 1}]},
        {"kind": "edit", "objects": [{"id": -1, "revision": 0}]},
        {"kind": "edit", "objects": [{"id": 77, "revision": 0, "state": "accepted"}]},
        {"kind": "relabel", "objects": [{"id": 1, "revision": 0, "category": 9}]},
        {"kind": "add", "added": [{"category": 0, "mask": {"x": 63, "y": 0, "w": 2, "h": 1,
                                                            "runs": [0, 2]}}]},
        {"kind": "add", "added": [{"category": 0, "mask": {"x": 0, "y": 0, "w": 2, "h": 1,
                                                            "runs": [2]}}]},
        {"kind": "add", "added": [{"category": 0, "mask": {"x": 0, "y": 0, "w": 2, "h": 1,
                                                            "runs": [0, 3]}}]},
        {"kind": "add", "added": [{"category": 0, "mask": {"x": 0, "y": 0, "w": 1 << 30,
                                                            "h": 1 << 30, "runs": [0, 1]}}]},
    ],
)  # fmt: skip
def test_a_request_that_does_not_fit_is_one_line_and_changes_nothing(
    unchanged: Client, request_: dict[str, object]
) -> None:
    answer = unchanged.send("/api/act", {"image": 1, **request_})
    assert answer.status == 400
    body = answer.json
    assert isinstance(body, dict)
    assert "\n" not in str(body["error"])
    news = unchanged.send("/api/changes?since=0").json
    assert isinstance(news, dict)
    assert news["revision"] == 0


def test_tiles_close_ups_and_heat_are_pictures(unchanged: Client) -> None:
    def shape(path: str) -> tuple[int, ...]:
        answer = unchanged.send(path)
        assert answer.status == 200
        decoded = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        return tuple(decoded.shape)

    assert shape("/tile/1/0/0/0") == (48, 64, 3)
    assert shape("/close-up/1") == (256, 256, 3)
    assert shape("/small/1") == (192, 256, 3)  # 64 x 48 at most 256 wide
    assert shape("/heat/1") == (48, 64, 4)
    assert unchanged.send("/tile/1/0/1/0").status == 404
    assert unchanged.send("/tile/1/7/0/0").status == 404
    assert unchanged.send("/tile/99/0/0/0").status == 400
    assert unchanged.send("/heat/2").status == 500  # part2 has none: one line


def test_an_image_that_moved_is_a_line_and_the_others_stay(tmp_path: Path) -> None:
    path = session(draw_labels(tmp_path))
    (tmp_path / "images" / "part1.png").unlink()
    write_png(tmp_path / "images" / "part2.png", np.zeros((9, 9, 3), np.uint8))
    with served(path, tmp_path / "images") as client:
        assert b"no such image; give their folder" in client.send("/api/image/1").body
        assert b"is 9x9, but listed as 64x48" in client.send("/close-up/3").body
        assert client.send("/api/image/3").status == 200


def test_a_large_image_is_served_in_tiles_of_every_level(tmp_path: Path) -> None:
    from pipeline.review.picture_cache import pyramid
    from pipeline.review.pictures import tile

    levels = pyramid(np.zeros((1100, 2100, 3), np.uint8))
    # 2100 -> 1050 -> 525 -> 263, the first that is a tile or less
    assert [level.shape[:2] for level in levels] == [
        (1100, 2100), (550, 1050), (275, 525), (138, 263),
    ]  # fmt: skip
    assert tile(levels, 0, 4, 2) is not None
    assert tile(levels, 0, 5, 0) is None
    assert tile(levels, 4, 0, 0) is None


def test_the_history_of_an_object_tells_who(client: Client) -> None:
    change = {"id": 1, "revision": 0, "category": 1}
    act(client, kind="relabel", object=1, objects=[change])
    entries = client.send("/api/history/1").json
    assert isinstance(entries, list)
    assert [(e["who"], e["kind"]) for e in entries if isinstance(e, dict)] == [("Ann", "relabel")]


def test_a_new_category_is_added_once(client: Client) -> None:
    assert client.send("/api/category", {"name": "<b>dent"}).json == 2
    assert client.send("/api/category", {"name": "<b>dent"}).json == 2
    assert client.send("/api/category", {"name": ""}).status == 400
    assert client.send("/api/category", {"name": "a\u0000b"}).status == 400


def test_without_a_sam_a_click_is_one_line(unchanged: Client) -> None:
    answer = unchanged.send(
        "/api/segment", {"image": 1, "clicks": [{"x": 1, "y": 1, "inside": True}]}
    )
    assert (answer.status, b"no SAM" in answer.body) == (400, True)
