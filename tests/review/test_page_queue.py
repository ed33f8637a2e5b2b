"""The queue of the page in a real browser: its order, its filters and their counts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from review_browser import browsing
from review_server import Client, served
from review_sessions import draw_labels, session

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


def test_the_queue_shows_the_least_trusted_first_with_counts(
    browser: Browser, client: Client
) -> None:
    with browsing(browser, client) as driver:
        assert driver.ask("review.queue.grid.ids") == [1, 2, 3, 4]
        page = driver.page
        options = page.get_by_role("listbox", name="Objects").get_by_role("option")
        assert options.count() == 4
        first = options.first
        assert first.get_attribute("aria-label") == "crack, expected IoU 0.10, to review, part1.png"
        page.get_by_role("button", name="stain").click()  # objects 2 and 4 of 4
        assert driver.ask("review.queue.grid.ids") == [2, 4]
        page.get_by_role("tab", name="Images").click()
        page.get_by_role("button", name="Only without a label").click()
        assert driver.ask("review.queue.grid.ids") == [3]


def test_objects_are_filtered_by_who_found_them(browser: Browser, tmp_path: Path) -> None:
    """By mouse and by keyboard, with counts. What a person draws has its own finder."""
    labels = draw_labels(tmp_path, finders="segmenter detector")
    with (
        served(session(labels), tmp_path / "images") as client,
        browsing(browser, client) as driver,
    ):
        choices = driver.page.get_by_role("complementary", name="Filters").get_by_role("button")
        finders = [
            text for text in choices.all_inner_texts() if "ector" in text or "menter" in text
        ]
        assert [text.split() for text in finders] == [["Segmenter", "2"], ["Detector", "2"]]
        button = driver.page.get_by_role("button", name="Detector")
        button.click()
        assert driver.ask("review.queue.grid.ids") == [2, 4]
        assert button.get_attribute("aria-pressed") == "true"
        assert driver.page.get_by_role("button", name="crack").inner_text().split() == [
            "crack",
            "0",
        ]
        driver.press("Shift+Tab", "Enter")  # the finder above it
        assert driver.ask("review.queue.grid.ids") == [1, 3]
        mask = {"x": 4, "y": 30, "w": 2, "h": 2, "runs": [0, 4]}
        added = {"kind": "add", "image": 1, "added": [{"category": 0, "mask": mask}]}
        client.send("/api/act", added)
        driver.page.locator("[data-name=state-all]").click()
        driver.page.get_by_role("button", name="Person").click()
        assert driver.ask("review.queue.grid.ids") == [5]
        driver.page.get_by_role("listbox", name="Objects").get_by_role("option").click()
        driver.page.get_by_role("definition").get_by_text("Person").wait_for()
        driver.page.locator("[data-name=back]").click()
        driver.acted("Control+z")  # the finder that is chosen stays there, with nothing of it
        assert driver.page.get_by_role("button", name="Person").inner_text().split()[1:] == ["0"]


def test_labels_without_a_finder_have_no_such_filter(browser: Browser, client: Client) -> None:
    with browsing(browser, client) as driver:
        assert driver.page.get_by_role("heading", name="Figures").is_visible()
        assert not driver.page.get_by_role("heading", name="Found by").is_visible()
