"""Near-duplicates of drawn sets: parts that share a structure, each with a texture of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.io.images import write_png
from pipeline.models.near_duplicates.search import find_near_duplicates, threshold_of
from pipeline.types import Image, ImageRecord

SIDE = 128


def part(seed: int, fine: float = 12.0) -> Image:
    """A part as a fixed camera sees it: a plate with holes, at the same place in each photo, and
    grain of its own with the standard deviation `fine`."""
    image = np.full((SIDE, SIDE), 120.0)
    for x in range(16, SIDE, 32):
        for y in range(16, SIDE, 32):
            cv2.circle(image, (x, y), 7, 40.0, -1)
    grain = np.random.default_rng(seed).normal(0, 1, (SIDE, SIDE))
    grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), 1.2), np.float64)
    grey = np.clip(image + fine * grain / grain.std(), 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def found(tmp_path: Path, images: list[Image]) -> set[tuple[int, int]]:
    records = []
    for row, image in enumerate(images):
        write_png(tmp_path / f"{row}.png", image)
        height, width = image.shape[:2]
        path = tmp_path / f"{row}.png"
        records.append(ImageRecord(row + 1, path, path.name, height, width, "p"))
    return {(pair.one, pair.other) for pair in find_near_duplicates(records).pairs}


def moved(image: Image) -> Image:
    shift = np.array([[1.0, 0, 6], [0, 1, -4]])
    return np.asarray(cv2.warpAffine(image, shift, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT))


def turned(image: Image) -> Image:
    turn = np.array(cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 1.5, 1))
    return np.asarray(cv2.warpAffine(image, turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT))


def compressed(image: Image) -> Image:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


CHANGES: dict[str, Callable[[Image], Image]] = {
    "a copy": lambda image: image,
    "a copy as JPEG": compressed,
    "a brighter exposure": lambda image: (image * 1.4).clip(0, 255).astype(np.uint8),
    "a darker exposure": lambda image: (image * 0.5).astype(np.uint8),
    "a crop": lambda image: image[10:110, 20:125].copy(),
    "a mirror image": lambda image: image[:, ::-1].copy(),
    "an upside-down mirror image": lambda image: image[::-1].copy(),
    "half a turn": lambda image: image[::-1, ::-1].copy(),
    "a moved shot": moved,
    "a turned shot": turned,
}
QUICK = "a turned shot"


@pytest.mark.parametrize(
    "change", [QUICK, *(pytest.param(c, marks=pytest.mark.slow) for c in CHANGES if c != QUICK)]
)
def test_a_changed_shot_of_one_part_is_found_and_no_other_part(tmp_path: Path, change: str) -> None:
    images = [part(seed) for seed in range(12)]
    assert found(tmp_path, [*images, CHANGES[change](images[3])]) == {(3, 12)}


def test_parts_that_share_all_but_their_grain_are_kept_apart(tmp_path: Path) -> None:
    assert found(tmp_path, [part(seed, fine=4) for seed in range(12)]) == set()


def test_all_exposures_of_one_part_are_found(tmp_path: Path) -> None:
    images = [(part(0) * gain).clip(0, 255).astype(np.uint8) for gain in np.linspace(0.5, 1.5, 8)]
    assert len(found(tmp_path, images)) == 8 * 7 // 2


def test_a_resized_copy_is_found(tmp_path: Path) -> None:
    images = [np.asarray(cv2.resize(part(seed), (256, 256)), np.uint8) for seed in range(12)]
    images.append(part(5))
    assert found(tmp_path, images) == {(5, 12)}


def test_images_without_texture_tell_nothing(tmp_path: Path) -> None:
    grey = [np.full((SIDE, SIDE, 3), value, np.uint8) for value in (0, 128, 255)]
    assert found(tmp_path, grey) == set()


def test_one_image_has_no_duplicate(tmp_path: Path) -> None:
    assert found(tmp_path, [part(0)]) == set()


def test_an_image_that_cannot_be_read_is_named_and_left_alone(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", part(0))
    (tmp_path / "b.png").write_bytes(b"broken")
    records = [ImageRecord(i, tmp_path / f"{n}.png", n, 128, 128) for i, n in ((1, "a"), (2, "b"))]
    result = find_near_duplicates(records)
    assert (result.pairs, result.unreadable) == ((), (1,))


def test_the_threshold_lies_above_what_random_pairs_have() -> None:
    """Median 0.2 and 90 % quantile 0.26: 0.2 + 6 * 0.06 / 1.2816 = 0.481."""
    spread = np.interp(np.linspace(0, 1, 101), [0, 0.5, 0.9, 1], [0.1, 0.2, 0.26, 0.27])
    assert threshold_of(spread) == pytest.approx(0.481, abs=0.001)


def test_the_threshold_stays_within_its_bounds() -> None:
    assert threshold_of(np.zeros(100)) == 0.3
    assert threshold_of(np.linspace(0, 0.74, 100)) == 0.75
    assert threshold_of(np.zeros(3)) == 0.6  # too few to tell
    assert threshold_of(np.full(50, 0.9)) == 0.75  # all are one object
