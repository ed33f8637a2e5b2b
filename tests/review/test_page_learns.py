"""Learning from inside the page: by keyboard, in the background, and by one process at a time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from learned_runs import reviewed_run
from pydantic import JsonValue
from review_browser import browsing
from review_sams import NamedSam
from review_server import Client, served
from review_sessions import draw_labels, session

from pipeline.io.locks import folder_lock
from pipeline.review.assistant import Assistant
from pipeline.review.store import ReviewStore

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow
_WAIT_S = 120.0


def learning(client: Client) -> dict[str, JsonValue]:
    news = client.send("/api/changes?since=0").json
    assert isinstance(news, dict)
    found = news["learn"]
    assert isinstance(found, dict)
    return found


def ended(client: Client) -> dict[str, JsonValue]:
    """How the process ended."""
    end = time.monotonic() + _WAIT_S
    while (found := learning(client))["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.2)
    return found


def test_the_page_learns_by_keyboard_and_shows_the_new_labels(
    browser: Browser, tmp_path: Path
) -> None:
    """The page is closed while the models learn; another one offers what they found, and goes on
    with the SAM that has learned."""
    run = reviewed_run(tmp_path)
    path = run / "labels" / "instances.review"
    learned = NamedSam("learned")
    assistant = Assistant(lambda: NamedSam("first"), newer=lambda: lambda: learned)
    with (
        folder_lock(path, "review"),
        served(path, tmp_path / "home/photos", assistant, run=run) as client,
    ):
        with browsing(browser, client) as driver:
            button = driver.page.get_by_role("button", name="Learn")
            assert button.get_attribute("aria-keyshortcuts") == "Shift+L"
            driver.press("Enter")
            driver.until("review.editor.image !== undefined")
            driver.acted("k")  # all labels of the first image are right
            driver.press("Shift+L")
            driver.until("review.session.learn.state === 'running'")
            driver.page.locator("#learn[aria-disabled=true]").wait_for()
            refused = client.send("/api/learn", {})
            assert (refused.status, b"are learning already" in refused.body) == (400, True)
        assert ended(client) == {"state": "offered", "line": "", "generation": 1}
        with browsing(browser, client) as driver:
            driver.page.get_by_text("Generation 1 has learned").wait_for()
            driver.page.get_by_text("SAM: first").wait_for()
            driver.press("Enter")
            driver.until("review.editor.image !== undefined")
            driver.press("c")
            driver.acted("Shift+L")
            driver.until("review.session.learn.state === 'idle'")
            driver.page.get_by_text("SAM: learned").wait_for()
            driver.until("review.editor.prepared === `${review.editor.image.id}/2`")
            assert driver.ask("review.session.canUndo")
    with ReviewStore(path) as store:
        actions = list(store.actions())
    assert [action.kind for action in actions] == ["check", "propose", "propose", "propose"]
    assert {action.who for action in actions[1:]} == {"learn 1"}


def test_what_ends_in_a_fault_is_a_line_of_the_page(browser: Browser, tmp_path: Path) -> None:
    run = reviewed_run(tmp_path)
    path = run / "labels" / "instances.review"
    with served(path, tmp_path / "home/photos", run=run) as client:
        assert client.send("/api/propose", {}).status == 400  # there is nothing yet
        with browsing(browser, client) as driver:
            driver.page.get_by_role("button", name="Learn").click()
            driver.page.get_by_text("has no finished image; mark images good (G)").wait_for()
        assert ended(client)["state"] == "failed"


def test_labels_of_no_run_have_no_button_and_foreign_sites_cannot_start_it(tmp_path: Path) -> None:
    with served(session(draw_labels(tmp_path)), tmp_path / "images") as client:
        assert learning(client)["state"] == "off"
        for path in ("/api/learn", "/api/propose"):
            assert client.send(path, {}).status == 400
            assert client.send(path, {}, origin="http://evil.example").status == 403
            assert client.send(path, {}, cookie=None).status == 403
            assert client.send(path, json.dumps({"x": 1})).status == 400
