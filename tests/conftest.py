"""A tiny product in MVTec layout, and the real small models, fetched once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.images import write_png
from pipeline.progress import set_quiet

os.environ.setdefault("PIPELINE_WEIGHTS", str(Path(__file__).parent.parent / "weights"))
_CACHE = tempfile.TemporaryDirectory(prefix="pipeline-cache-")  # nothing of an earlier program
os.environ["PIPELINE_CACHE"] = _CACHE.name

MakeProduct = Callable[..., Path]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    set_quiet(True)


@pytest.fixture
def make_product(tmp_path: Path) -> MakeProduct:
    """Write a product: noise for images, and one mask (by default a 6x4 block) per defect image."""

    def make(
        defects: dict[str, int] | None = None,
        good_train: int = 4,
        good_test: int = 2,
        size: tuple[int, int] = (48, 64),
        mask: np.ndarray | None = None,
        name: str = "widget",
    ) -> Path:
        root = tmp_path / name
        generator = np.random.default_rng(0)

        def image(path: Path) -> None:
            write_png(path, generator.integers(0, 255, (*size, 3)).astype(np.uint8))

        for index in range(good_train):
            image(root / "train" / "good" / f"{index:03d}.png")
        for index in range(good_test):
            image(root / "test" / "good" / f"{index:03d}.png")
        block = np.zeros(size, dtype=np.uint8)
        block[10:14, 20:26] = 255
        for defect, count in ({"crack": 3, "stain": 3} if defects is None else defects).items():
            for index in range(count):
                image(root / "test" / defect / f"{index:03d}.png")
                drawn = block if mask is None else mask
                write_png(root / "ground_truth" / defect / f"{index:03d}_mask.png", drawn)
        return root

    return make
