"""Random crops: the same for the same step, and most of them on a defect."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from segmenters import Block, drawn_photo

from pipeline.errors import DataError
from pipeline.models.segmentation import crops
from pipeline.models.segmentation.crops import CropSampler
from pipeline.models.segmentation.photos import ScaledPhotos


def sampler(
    folder: Path, *blocks: Block, size: tuple[int, int] = (200, 300), seed: int = 0
) -> CropSampler:
    """Of one photo."""
    return CropSampler(ScaledPhotos([drawn_photo(folder / "a.png", size, blocks)], 1.0), [0], seed)


def test_without_a_photo_there_is_nothing_to_learn_from() -> None:
    with pytest.raises(ValueError, match="no photo"):
        CropSampler(ScaledPhotos([], 1.0), [], 0)


def test_a_step_has_the_same_crops_whatever_came_before(tmp_path: Path) -> None:
    one, other = (sampler(tmp_path, (0, 50, 50, 60, 60)) for _ in range(2))
    for step in range(3):
        one.batch(step, 2)
    pixels, labels = one.batch(3, 2)
    again, labels_again = other.batch(3, 2)
    assert torch.equal(pixels, again)
    assert torch.equal(labels, labels_again)
    assert not torch.equal(pixels, one.batch(4, 2)[0])
    assert not torch.equal(pixels, sampler(tmp_path, (0, 50, 50, 60, 60), seed=1).batch(3, 2)[0])


def test_pixels_and_labels_fit_each_other(tmp_path: Path) -> None:
    pixels, labels = sampler(tmp_path, (1, 50, 50, 90, 90)).batch(0, 16)
    assert pixels.shape == (16, 3, 64, 64)
    assert pixels.dtype == torch.float32
    assert labels.shape == (16, 64, 64)
    assert set(labels.unique().tolist()) == {0, 2}
    bright = pixels.mean(dim=1)
    assert bright[labels == 2].mean() > bright[labels == 0].mean() + 80


def test_about_two_of_three_crops_hold_a_defect(tmp_path: Path) -> None:
    """65 % are drawn about a defect, of which a few miss it; of the others a photo of 300 x 200
    with one of 10 x 10 pixels has few."""
    _, labels = sampler(tmp_path, (0, 150, 100, 160, 110)).batch(0, 200)
    held = labels.flatten(1).any(dim=1).float().mean()
    assert 0.5 < held < 0.85


def test_a_rare_category_is_drawn_as_often_as_another_half_of_the_time(tmp_path: Path) -> None:
    """0.65 x (0.5 / 2 + 0.5 / 20) = 0.18 of the crops are drawn for it; by number, 0.03."""
    common = [(0, 8 * number, 10, 8 * number + 4, 14) for number in range(19)]
    rare = (1, 270, 170, 280, 180)
    _, labels = sampler(tmp_path, *common, rare).batch(0, 300)
    assert 0.1 < (labels == 2).flatten(1).any(dim=1).float().mean() < 0.35


@pytest.mark.parametrize("size", [(1, 1), (20, 30), (10, 40_000)])
def test_photos_smaller_than_a_crop_and_longer_than_opencv_warps_are_cropped(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    pixels, labels = sampler(tmp_path, size=size).batch(0, 3)
    assert pixels.shape == (3, 3, 64, 64)
    assert not labels.any()


@pytest.mark.parametrize("side", [64, 256])
def test_a_crop_sees_no_more_of_a_photo_than_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    """Also at the borders, where the photo is mirrored."""
    monkeypatch.setattr(crops, "SIDE", side)
    own = sampler(tmp_path, (0, 5, 5, 40, 40), size=(700, 600))
    near = [own.batch(step, 2) for step in range(6)]
    monkeypatch.setattr(crops, "_REACH", 10_000)
    for step, (pixels, labels) in enumerate(near):
        whole, whole_labels = own.batch(step, 2)
        assert (pixels - whole).abs().max() <= 2  # OpenCV places pixels by 1/32
        assert (labels == whole_labels).float().mean() > 0.999


def test_a_photo_that_is_gone_is_one_line(tmp_path: Path) -> None:
    own = sampler(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png"):
        own.batch(0, 1)
