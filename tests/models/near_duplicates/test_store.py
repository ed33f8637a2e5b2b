from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.models.near_duplicates.store import Pictures, Textures


def test_pictures_of_different_sizes_come_back(tmp_path: Path) -> None:
    pictures = Pictures([(2, 3), (1, 4)], tmp_path / "file")
    pictures[1] = np.array([[1, 2, 3, 4]], np.uint8)
    pictures[0] = np.full((2, 3), 9, np.uint8)
    assert pictures[0].tolist() == [[9, 9, 9], [9, 9, 9]]
    assert pictures[1].tolist() == [[1, 2, 3, 4]]


def test_a_texture_loses_a_32nd_of_a_standard_deviation_at_most(tmp_path: Path) -> None:
    """A byte has 16 steps in a standard deviation: half a step is 1 / 32."""
    texture = np.random.default_rng(0).normal(0, 1, (20, 30)).astype(np.float32)
    stored = Textures([(20, 30)], tmp_path / "file")
    stored[0] = texture
    assert np.abs(stored[0] - texture).max() <= 1 / 32


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(DataError, match=r"has no 2 MB for thumbnails .* give --group-by none"):
        Pictures([(1000, 2000)], tmp_path / "file")
