from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ConfigError, Faults
from pipeline.formats.mvtec import read_defect_mask, read_mvtec
from pipeline.geometry import masks as mask_geometry
from pipeline.synthesis.defects import DEFECTS, photograph
from pipeline.synthesis.product import MVTEC_ZIPPER, long_tail, write_product
from pipeline.synthesis.zipper import draw, new_zipper


@cache
def good(seed: int) -> np.ndarray:
    """The photo of a zipper."""
    return draw(new_zipper(np.random.default_rng(seed)), 512)


@cache
def defective(defect: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The photo of the same zipper with a defect, and its mask."""
    generator = np.random.default_rng(seed)
    zipper = new_zipper(generator)
    return photograph(zipper, DEFECTS[defect](zipper, generator, 0.4), 512)


def test_the_defects_are_those_of_mvtec() -> None:
    assert DEFECTS.keys() == MVTEC_ZIPPER.keys()
    assert sum(MVTEC_ZIPPER.values()) == 119


def test_a_good_zipper_is_dark_cloth_on_a_white_table() -> None:
    image = good(0)
    assert image.shape == (512, 512, 3)
    assert (image[:, :20] > 240).all()  # the table
    assert 40 < np.median(image[:, 120:400]) < 90  # MVTec's zipper: 60


@pytest.mark.parametrize(
    "defect",
    [
        defect if defect == "rough" else pytest.param(defect, marks=pytest.mark.slow)
        for defect in sorted(DEFECTS)
    ],
)
def test_a_mask_covers_what_differs_from_the_same_zipper_without_the_defect(defect: str) -> None:
    image, mask = defective(defect, 1)
    difference = np.abs(image.astype(int) - good(1)).max(axis=2)
    assert mask.any()
    assert mask.mean() < 0.08
    # camera noise is the same for both; beyond the mask at most specks are left
    assert (difference[~mask] > 25).mean() < 5e-4
    assert difference[mask].mean() > 4 * difference[~mask].mean()


@pytest.mark.slow
def test_a_filled_box_is_a_poor_mask() -> None:
    ious = []
    for defect in DEFECTS:
        rles, _ = mask_geometry.instances(defective(defect, 1)[1])
        for rle, box in zip(rles, mask_geometry.bounding_boxes(rles), strict=True):
            ious.append(mask_geometry.paired_iou(mask_geometry.from_box(box, 512, 512), rle))
    assert np.mean(ious) < 0.65  # on MVTec's zipper it has 0.71


@pytest.mark.slow
def test_the_same_seed_draws_the_same_bytes_and_counts_do_not_matter(tmp_path: Path) -> None:
    write_product(tmp_path / "a", 128, 1, 0, {"rough": 1}, seed=4)
    write_product(tmp_path / "b", 128, 0, 0, {"rough": 2}, seed=4)
    write_product(tmp_path / "c", 128, 0, 0, {"rough": 1}, seed=5)
    first, again, other = (
        (tmp_path / name / "test" / "rough" / "000.png").read_bytes() for name in "abc"
    )
    assert first == again != other


@pytest.mark.slow
def test_a_product_is_in_mvtecs_layout(tmp_path: Path) -> None:
    write_product(tmp_path / "zipper", 128, 1, 1, {"rough": 1, "combined": 1}, seed=0)
    dataset = read_mvtec([tmp_path / "zipper"], Faults())
    assert [r.defect for r in dataset.records] == ["good", "combined", "good", "rough"]
    for record in dataset.records:
        mask = read_defect_mask(record)
        assert (mask is None) == (record.defect == "good")
        assert mask is None or mask.any()


def test_a_long_tail_falls_from_most_to_fewest() -> None:
    counts = list(long_tail(40, 2).values())
    assert (counts[0], counts[-1]) == (40, 2)
    assert counts == sorted(counts, reverse=True)
    with pytest.raises(ConfigError, match="not possible"):
        long_tail(2, 5)


def test_an_unknown_defect_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such defect: rust; known: broken_teeth"):
        write_product(tmp_path, 512, 0, 0, {"rust": 1}, seed=0)
