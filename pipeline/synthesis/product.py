"""A product folder of drawn zippers, in MVTec's layout."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.errors import ConfigError
from pipeline.io.images import Image, Mask, write_png
from pipeline.runners import map_items
from pipeline.runtime.progress import track
from pipeline.synthesis.defects import DEFECTS, photograph
from pipeline.synthesis.zipper import Zipper, draw, new_zipper

MVTEC_ZIPPER = {  # MVTec AD's own counts of test images
    "broken_teeth": 19,
    "combined": 16,
    "fabric_border": 17,
    "fabric_interior": 16,
    "rough": 17,
    "split_teeth": 18,
    "squeezed_teeth": 16,
}


def long_tail(most: int, fewest: int) -> dict[str, int]:
    """Number of images of each defect, falling geometrically from `most` to `fewest`. Raises
    ConfigError unless 1 <= `fewest` <= `most`."""
    if not 1 <= fewest <= most:
        raise ConfigError(f"a long tail from {most} to {fewest} images is not possible")
    steps = np.geomspace(most, fewest, len(DEFECTS))
    return {name: round(float(count)) for name, count in zip(DEFECTS, steps, strict=True)}


def write_product(
    root: Path, side: int, good_train: int, good_test: int, defects: Mapping[str, int], seed: int
) -> int:
    """Draw a product into `root`; returns the number of images.

    side: of each image in pixels. defects: number of images by defect. The same arguments give the
    same bytes, and image k of a defect does not depend on the counts. Raises ConfigError for an
    unknown defect, DataError when a file cannot be written.
    """
    unknown = set(defects) - set(DEFECTS)
    if unknown:
        raise ConfigError(
            f"no such defect: {', '.join(sorted(unknown))}; known: {', '.join(DEFECTS)}"
        )
    jobs = [("train", "good", index) for index in range(good_train)]
    jobs += [("test", "good", index) for index in range(good_test)]
    jobs += [("test", defect, index) for defect, count in defects.items() for index in range(count)]
    work = partial(_draw, root=root, side=side, seed=seed)
    with closing(map_items(work, jobs)) as drawn:
        for _ in track(drawn, "draw zippers", len(jobs)):
            pass
    return len(jobs)


def _draw(job: tuple[str, str, int], root: Path, side: int, seed: int) -> None:
    """Draw one image, in any process. job: its split, category and number."""
    split, category, index = job
    generator = np.random.default_rng(_seed_of(seed, split, category, index))
    zipper = new_zipper(generator)
    target = root / split / category / f"{index:03d}.png"
    if category == "good":
        write_png(target, draw(zipper, side))
        return
    image, mask = _with_defect(zipper, category, generator, side)
    write_png(target, image)
    write_png(root / "ground_truth" / category / f"{index:03d}_mask.png", mask * np.uint8(255))


def _with_defect(
    zipper: Zipper, defect: str, generator: np.random.Generator, side: int
) -> tuple[Image, Mask]:
    while True:  # an invisible change is not a defect: try another place
        y = generator.uniform(0.10, 0.90)
        image, mask = photograph(zipper, DEFECTS[defect](zipper, generator, y), side)
        if mask.any():
            return image, mask


def _seed_of(seed: int, split: str, category: str, index: int) -> list[int]:
    return [seed, *f"{split}/{category}".encode(), index]
