from __future__ import annotations

import pytest
import torch

from pipeline.models.features.patch_sample import PatchSample


def numbered(images: int, each: int) -> list[torch.Tensor]:
    """Patches of one number, from 0 up: `each` of them in every image."""
    return list(torch.arange(images * each).float().view(images, each, 1).unbind())


def sample(limit: int, images: list[torch.Tensor], seed: int = 0) -> PatchSample:
    filled = PatchSample(limit, seed)
    for image in images:
        filled.add(image)
    return filled


def values(filled: PatchSample) -> list[float]:
    return torch.cat(filled.parts()).flatten().tolist()


def test_nothing_added_is_nothing_seen() -> None:
    empty = PatchSample(3)
    assert (empty.seen, len(empty), empty.parts()) == (0, 0, [])


def test_up_to_the_limit_every_patch_stays_in_order() -> None:
    filled = sample(12, numbered(3, 4))
    assert (filled.seen, len(filled)) == (12, 12)
    assert values(filled) == list(range(12))


@pytest.mark.parametrize("limit", [1, 5, 11])
def test_above_the_limit_as_many_different_patches_stay(limit: int) -> None:
    filled = sample(limit, numbered(6, 2))
    kept = values(filled)
    assert (filled.seen, len(filled), len(set(kept))) == (12, limit, limit)
    assert kept == sorted(kept)


def test_when_the_sample_is_cut_changes_nothing() -> None:
    """One image of 2,000 patches is cut once, 200 images of ten many times."""
    assert values(sample(50, numbered(1, 2000))) == values(sample(50, numbered(200, 10)))


def test_the_first_image_has_no_more_chance_than_the_last() -> None:
    """2,000 of 20,000 patches: each half has 1,000, with a standard deviation of 21."""
    kept = values(sample(2000, numbered(200, 100)))
    first = sum(value < 10_000 for value in kept)
    assert abs(first - 1000) < 5 * 21


def test_another_seed_draws_other_patches() -> None:
    images = numbered(10, 10)
    assert values(sample(10, images)) == values(sample(10, images))
    assert values(sample(10, images)) != values(sample(10, images, seed=1))


def test_patches_are_selected_by_their_place_in_the_sample() -> None:
    """Parts of 0-3, 4-7 and 8-11; none is taken from the second."""
    filled = sample(12, numbered(3, 4))
    assert filled.select(torch.tensor([9, 0, 3])).flatten().tolist() == [0, 3, 9]
