"""What is refused to a cache, and the notices of that."""

from __future__ import annotations

import errno
import tempfile

import pytest

from pipeline.io import cache_root as root_module
from pipeline.models import checkpoint
from pipeline.models import openvino_graphs as graphs


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The notices of a process that has given none yet."""
    given: list[str] = []
    monkeypatch.setattr(root_module, "_noticed", False)
    for module in (root_module, graphs, checkpoint):
        monkeypatch.setattr(module, "say", given.append)
    return given


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
