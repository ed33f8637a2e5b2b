"""The review's page in a browser, and labels to review."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from review_browser import opened_browser
from review_server import Client, served
from review_sessions import draw_labels, session

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as browser:
        yield browser


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return draw_labels(tmp_path)


@pytest.fixture
def client(labels: Path) -> Iterator[Client]:
    with served(session(labels), labels.parent / "images") as client:
        yield client
