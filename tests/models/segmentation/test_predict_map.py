"""The defect map of images of any size, by tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segmenters import BrightPixels, on_views
from torch import nn

from pipeline.models.segmentation import predict
from pipeline.models.segmentation.predict import predict_map, spans


def image_with_block(height: int, width: int) -> np.ndarray:
    """Dark, with a bright block in its second quarter, both ways."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2] = 220
    return image


@pytest.mark.parametrize("scale", [0.25, 0.3, 1.0, 1.7])
@pytest.mark.parametrize("length", [1, 1535, 1537, 2047, 5000, 20_011])
def test_each_pixel_is_used_once_and_inside_of_its_tile(length: int, scale: float) -> None:
    tiles = list(spans(length, scale))
    used = [part for _, part in tiles]
    assert [first for first, _ in used] == [0, *(last for _, last in used[:-1])]
    assert used[-1][1] == length
    margin = round(64 / scale)
    for (start, stop), (first, last) in tiles:
        assert start <= first < last <= stop
        assert start == 0 or first - start >= margin
        assert stop == length or stop - last >= margin
    sizes = {stop - start for (start, stop), _ in tiles}
    assert len(sizes) == 1  # the last one is not a rest
    assert max(sizes) * scale <= 1536


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (31, 200), (128, 64)])
def test_a_map_has_the_size_of_its_image(size: tuple[int, int]) -> None:
    found = predict_map([on_views(BrightPixels())], image_with_block(*size), 1.0, 2)
    assert found.defect.shape == found.category.shape == found.size == size


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.0])
def test_a_block_is_found_in_its_place_at_every_scale(scale: float) -> None:
    image = image_with_block(83, 121)
    found = predict_map([on_views(BrightPixels(bright=1))], image, scale, 2)
    truth, own = image[:, :, 0] > 128, found.defect >= 128
    assert (truth & own).sum() / (truth | own).sum() > 0.9
    assert (found.category[own & truth] == 1).all()


def test_networks_speak_as_their_mean() -> None:
    """One sees a defect where it is bright, one where it is dark: 0.5 everywhere, 127.5 of 255."""

    class DarkPixels(BrightPixels):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return super().forward(255 - pixels)

    image = np.full((32, 32, 3), 250, np.uint8)
    found = predict_map([on_views(BrightPixels()), on_views(DarkPixels())], image, 1.0, 2)
    assert abs(found.defect.astype(int) - 127).max() <= 1


def test_tiles_say_what_one_pass_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network sees 7 pixels, less than the border that is not used."""
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 7, padding=3)
    first.weight.data /= 50  # of pixels in [0, 255]
    network = nn.Sequential(first, nn.Tanh(), nn.Conv2d(8, 3, 1)).eval()
    image = np.random.default_rng(0).integers(0, 255, (250, 331, 3)).astype(np.uint8)
    whole = predict_map([on_views(network)], image, 1.0, 2)
    for name, value in {"_WHOLE": 96, "_TILE": 96, "_MARGIN": 8}.items():
        monkeypatch.setattr(predict, name, value)
    tiled = predict_map([on_views(network)], image, 1.0, 2)
    assert np.ptp(whole.defect) > 50
    middle = slice(8, -8), slice(8, -8)
    apart = np.abs(whole.defect.astype(int) - tiled.defect)[middle]
    assert apart.max() <= 3  # of 255, in bfloat16
    assert (whole.category == tiled.category)[middle].mean() > 0.98


def test_more_than_256_categories_have_smaller_tiles_and_wider_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sides = []

    class Watched(BrightPixels):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            sides.append(pixels.shape[3])
            return super().forward(pixels)

    monkeypatch.setattr(predict, "_VALUES", 301 * 64 * 64)
    monkeypatch.setattr(predict, "_LEAST", 32)
    monkeypatch.setattr(predict, "_MARGIN", 8)
    found = predict_map([on_views(Watched(300, 299))], image_with_block(40, 100), 1.0, 300)
    assert max(sides) == 64
    assert found.category.dtype == np.uint16
    assert set(found.category[found.defect > 128].tolist()) == {299}
