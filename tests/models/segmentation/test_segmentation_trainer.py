"""The training of a network: it learns, and goes on after a stop."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from segmenters import CPU, drawn_photo

from pipeline.models import checkpoint
from pipeline.models.segmentation.crops import CropSampler
from pipeline.models.segmentation.cross_fit import fold_of_groups
from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork
from pipeline.models.segmentation.photos import LabelledPhoto, ScaledPhotos
from pipeline.models.segmentation.trainer import TrainingOptions, train


def sampler(folder: Path) -> CropSampler:
    blocks = [(0, 10, 10, 40, 40), (1, 60, 50, 85, 80)]
    return CropSampler(ScaledPhotos([drawn_photo(folder / "a.png", (96, 96), blocks)], 1.0), [0], 0)


def trained(
    crops: CropSampler, options: TrainingOptions
) -> tuple[list[float], dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    network = SegmentationNetwork(NetworkOptions("mobilenet_v2", 2))
    return train(network, crops, options, CPU, "train"), network.state_dict()


@pytest.mark.slow
def test_the_loss_falls(tmp_path: Path) -> None:
    losses, _ = trained(sampler(tmp_path), TrainingOptions(14, 2, batch=4))
    assert len(losses) == 16
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


@pytest.mark.parametrize("learns_all", [False, True])
def test_one_step_of_each_phase_is_a_training(tmp_path: Path, learns_all: bool) -> None:
    losses, _ = trained(sampler(tmp_path), TrainingOptions(1, 1, batch=1, learns_all=learns_all))
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))


def test_a_stage_that_never_learns_keeps_its_weights_and_the_others_change(tmp_path: Path) -> None:
    torch.manual_seed(0)
    begun = SegmentationNetwork(NetworkOptions("mobilenet_v2", 2)).state_dict()
    _, ended = trained(sampler(tmp_path), TrainingOptions(1, 1, batch=1))
    moved = {key.rpartition(".")[0] for key in begun if not torch.equal(begun[key], ended[key])}
    stages = {key.split(".")[1] for key in moved if key.startswith("stages")}
    assert stages == {"2", "3", "4"}
    assert any(key.startswith("head") for key in moved)


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [0, 1, 2, 3])
def test_a_stopped_training_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Two steps in each phase; it is stopped before step `stop_at`."""
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    expected, weights = trained(sampler(tmp_path), TrainingOptions(2, 2, batch=2))
    own = sampler(tmp_path)
    options = TrainingOptions(2, 2, batch=2, checkpoint=tmp_path / "work" / "network.pt")

    def stopping(step: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        if step == stop_at:
            raise KeyboardInterrupt
        return CropSampler.batch(own, step, count)

    with monkeypatch.context() as patch:
        patch.setattr(own, "batch", stopping)
        with pytest.raises(KeyboardInterrupt):
            trained(own, options)
    losses, again = trained(own, options)
    assert losses == expected
    assert all(torch.equal(weights[key], again[key]) for key in weights)


def photos(folder: Path, *labels: int | None) -> list[LabelledPhoto]:
    """A photo for each label; None for a good one. Each is of an object of its own."""
    return [
        drawn_photo(
            folder / f"{number}.png", (16, 16),
            [] if label is None else [(label, 4, 4, 8, 8)], group=f"object {number}",
        )
        for number, label in enumerate(labels)
    ]  # fmt: skip


@pytest.mark.parametrize("count", [0, 1])
def test_there_are_no_folds_where_none_is_wanted(tmp_path: Path, count: int) -> None:
    assert fold_of_groups(photos(tmp_path, 0, 0, 0), count, 0) == {}


def test_defects_of_one_object_make_no_folds(tmp_path: Path) -> None:
    assert fold_of_groups([], 3, 0) == {}
    assert fold_of_groups(photos(tmp_path, None, None, None), 3, 0) == {}
    assert fold_of_groups(photos(tmp_path, 0, None, None), 3, 0) == {}


def test_two_objects_with_defects_make_two_folds(tmp_path: Path) -> None:
    fold_of = fold_of_groups(photos(tmp_path, 0, 0, None, None), 3, 0)
    assert fold_of["object 0"] != fold_of["object 1"]
    assert sorted(fold_of.values()) == [0, 0, 1, 1]


def test_categories_of_one_photo_each_are_spread_over_the_folds(tmp_path: Path) -> None:
    """Six categories and three good photos in three folds: two of the first, one of the others."""
    own = photos(tmp_path, 0, 1, 2, 3, 4, 5, None, None, None)
    fold_of = fold_of_groups(own, 3, 0)
    for fold in range(3):
        held = [photo for photo in own if fold_of[photo.group] == fold]
        assert [len(photo.objects) for photo in held] == [1, 1, 0]


def test_every_fold_has_its_part_of_each_category(tmp_path: Path) -> None:
    fold_of = fold_of_groups(photos(tmp_path, *[0] * 6, *[1] * 3), 3, 0)
    assert sorted(fold_of[f"object {number}"] for number in range(6)) == [0, 0, 1, 1, 2, 2]
    assert sorted(fold_of[f"object {number}"] for number in range(6, 9)) == [0, 1, 2]
