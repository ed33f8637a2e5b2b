"""A converted set to be spoilt and checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

MakeProduct = Callable[..., Path]


def rows(raw: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = raw["annotations"]
    return found
