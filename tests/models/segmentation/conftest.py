"""Crops of a sixteenth of the area."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from segmenters import small_crops


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small_crops():
        yield
