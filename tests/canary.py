"""A canary that sings where a door is open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MakeProduct = Callable[..., Path]


SOURCES = Path(__file__).parents[1] / "pipeline"


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def plant_cache(path: Path, marker: Path) -> None:
    with path.open("wb") as stream:  # np.save to a name would add .npy to it
        np.save(stream, np.array([Canary(marker)], object), allow_pickle=True)
