"""A converted set to be spoilt and checked."""

from __future__ import annotations

from typing import Any


def rows(raw: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = raw["annotations"]
    return found
