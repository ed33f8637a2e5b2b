from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.models.features.held import HeldFeatures
from pipeline.models.features.patches import FeaturesSource
from pipeline.types import Image


class Counted:
    """A third of the first pixel, as four patches of one number: 8 bytes in half precision."""

    card = FeaturesSource(features="counted", weights_sha256="", image_side=16)
    side = 16

    def __init__(self) -> None:
        self.calls = 0

    def patches(self, image: Image) -> torch.Tensor:
        self.calls += 1
        return torch.full((2, 2, 1), int(image[0, 0, 0]) / 3)

    def on(self, device: torch.device) -> None:
        self.device = device


def image(value: int, height: int = 4, width: int = 4) -> Image:
    return np.full((height, width, 3), value, np.uint8)


def test_an_image_is_computed_once() -> None:
    source = Counted()
    held = HeldFeatures(source)
    grids = [held.patches(image(value)) for value in (1, 2, 1, 2)]
    assert source.calls == 2
    assert torch.equal(grids[0], grids[2])
    assert torch.equal(grids[1], grids[3])


def test_the_same_pixels_in_another_shape_are_another_image() -> None:
    source = Counted()
    held = HeldFeatures(source)
    held.patches(image(1, 2, 8))
    held.patches(image(1, 8, 2))
    assert source.calls == 2


@pytest.mark.parametrize(("limit", "calls"), [(0, 4), (8, 3), (16, 2)])
def test_images_beyond_the_limit_are_computed_again_to_the_same_bytes(
    limit: int, calls: int
) -> None:
    """Two images of 8 bytes, asked for twice."""
    source = Counted()
    held = HeldFeatures(source, limit)
    grids = [held.patches(image(value)) for value in (1, 2, 1, 2)]
    assert source.calls == calls
    assert torch.equal(grids[0], grids[2])
    assert torch.equal(grids[1], grids[3])
    assert float(grids[0][0, 0, 0]) == float(np.float16(1 / 3))
