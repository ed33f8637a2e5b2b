"""The review's page in a real Chromium. Where there is none, these tests are skipped with the
reason; `.ci/run` installs one, and sets PIPELINE_BROWSER so that they cannot be."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from review_server import TOKEN, Client

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_WAIT_S = 30.0


def browser_path() -> str:
    """Chromium on this machine. Skips the test without one, or fails it where one is needed."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    reason = "" if found else "there is no Chromium: apt-get install chromium"
    try:
        import playwright  # noqa: F401
    except ModuleNotFoundError:
        reason = "there is no playwright: pip install playwright"
    if reason:
        if os.environ.get("PIPELINE_BROWSER") == "needed":
            pytest.fail(reason)
        pytest.skip(reason)
    assert found is not None
    return found


class PageDriver:
    """A page that is open, and what it says of itself."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: self.faults.append(dialog.message))

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.page.wait_for_selector("body[data-ready]")

    def ask(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def until(self, expression: str) -> None:
        """Wait until an expression is true. The page's own policy forbids playwright's way."""
        end = time.monotonic() + _WAIT_S
        while not self.ask(expression):
            assert time.monotonic() < end, expression
            self.page.wait_for_timeout(10)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def acted(self, *keys: str) -> None:
        """Press keys, and wait for the action that the last one is."""
        before = self.ask("review.session.revision")
        self.press(*keys)
        self.settled(before)

    def settled(self, before: int) -> None:
        self.until(f"review.session.revision > {before} && review.session.waiting === 0")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one pixel of the image to another."""
        (x0, y0), (x1, y1) = self.place(*start), self.place(*end)
        self.page.mouse.move(x0, y0)
        self.page.mouse.down()
        self.page.mouse.move((x0 + x1) / 2, (y0 + y1) / 2)
        self.page.mouse.move(x1, y1)
        self.page.mouse.up()

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the image is on the screen."""
        at = self.ask(f"review.editor.stage.toScreen({x}, {y})")
        box = self.page.locator("canvas").bounding_box()
        assert box is not None
        return box["x"] + at["x"], box["y"] + at["y"]

    def move_cross(self, x: float, y: float) -> None:
        """Move the keyboard's cross to a pixel of the image, with arrows alone."""
        goal = self.ask(f"review.editor.stage.toScreen({x}, {y})")
        for axis, keys in (("x", ("ArrowLeft", "ArrowRight")), ("y", ("ArrowUp", "ArrowDown"))):
            self.press("Alt+ArrowRight", "Alt+ArrowLeft")
            for step, prefix in ((48, "Shift+"), (8, ""), (1, "Alt+")):
                left = goal[axis] - self.ask(f"review.editor.tools.cross.{axis}")
                for _ in range(int(abs(left) // step)):
                    self.press(prefix + keys[left > 0])


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """A browser without a page. It starts in a second, so the tests of a file share one."""
    path = browser_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def browsing(browser: Browser, client: Client) -> Iterator[PageDriver]:
    """A page of a server, with a viewport of 1280 x 720, and with no cookie or picture of the pages
    before it."""
    with browser.new_context(viewport={"width": 1280, "height": 720}) as context:
        page = context.new_page()
        page.set_default_timeout(_WAIT_S * 1000)
        driver = PageDriver(page)
        driver.open(f"http://127.0.0.1:{client.port}/?token={quote(TOKEN)}")
        yield driver
        assert driver.faults == []
