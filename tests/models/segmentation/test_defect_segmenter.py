"""A trained segmentation model: its folder, and which of its networks speaks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from segmenters import CPU, random_segmenter

from pipeline.errors import DataError, WeightsError
from pipeline.io.read import sha256_of
from pipeline.models.artifact import CARD, TENSORS
from pipeline.models.load import load_detector, load_model
from pipeline.models.segmentation.defect_map import RegionOptions
from pipeline.models.segmentation.model import (
    DefectSegmenter,
    load_defect_segmenter,
    with_regions,
)

IMAGE = np.random.default_rng(0).integers(0, 255, (50, 70, 3)).astype(np.uint8)


def high(model: DefectSegmenter) -> float:
    """A threshold that one of ten pixels reaches."""
    return float(np.quantile(model.heatmap(IMAGE), 0.9))


@pytest.mark.slow
def test_a_folder_holds_the_model_that_was_saved(tmp_path: Path) -> None:
    model = random_segmenter([["a", "b"], ["c"]], confidence=0.25, threshold=0.4)
    model.save(tmp_path, {"steps": 3})
    assert json.loads((tmp_path / CARD).read_text())["steps"] == 3
    again = load_defect_segmenter(tmp_path, CPU)
    assert again.categories == ("crack", "stain")
    assert (again.scale, again.confidence) == (1.0, 0.25)
    assert again.region_options == model.region_options
    assert [member.unseen for member in again.members] == [{"a", "b"}, {"c"}]
    for group in (None, "a", "c"):
        first, second = model.defect_map(IMAGE, group), again.defect_map(IMAGE, group)
        assert (first.defect == second.defect).all()
        assert (first.category == second.category).all()


def test_any_command_loads_it_as_a_detector(tmp_path: Path) -> None:
    random_segmenter(confidence=0.25).save(tmp_path, {})
    model = load_model(tmp_path, "cpu")
    assert isinstance(model, DefectSegmenter)
    assert model.confidence == 0.25
    other = load_detector(tmp_path, "cpu", 0.5, 7)
    assert isinstance(other, DefectSegmenter)
    assert (other.confidence, other.max_regions) == (0.5, 7)


@pytest.mark.slow
def test_a_photo_is_judged_by_the_network_that_did_not_learn_from_it() -> None:
    both = random_segmenter([["a"], ["b"]])
    alone = random_segmenter([["a"]])  # the first network
    first = both.defect_map(IMAGE, "a").defect
    assert (first == alone.defect_map(IMAGE).defect).all()
    assert (first != both.defect_map(IMAGE, "b").defect).any()
    everyone = both.defect_map(IMAGE)
    assert (everyone.defect == both.defect_map(IMAGE, "unknown").defect).all()
    assert (everyone.defect != first).any()


def test_an_image_is_predicted_once_and_another_one_again() -> None:
    model = random_segmenter()
    found = model.defect_map(IMAGE)
    assert model.defect_map(IMAGE) is found
    assert model.defect_map(IMAGE[:40].copy()).size == (40, 70)
    assert model.defect_map(IMAGE) is not found


def test_regions_come_likeliest_first_and_as_many_as_are_wanted() -> None:
    model = random_segmenter()
    model = with_regions(model, RegionOptions(high(model), 0, 1), 0.0)
    found = model.detect(IMAGE)
    assert found.scores is not None
    assert len(found) > 1
    assert (np.diff(found.scores) <= 0).all()
    model.max_regions = 1
    assert model.detect(IMAGE).scores.tolist() == found.scores[:1].tolist()  # type: ignore[union-attr]
    model.confidence = 1.0
    assert len(model.detect(IMAGE)) == 0


def test_other_regions_leave_the_model_as_it_is_and_copy_no_network() -> None:
    model = random_segmenter()
    other = with_regions(model, RegionOptions(0.3, 4, 9), 0.6)
    assert (model.region_options, model.confidence) == (RegionOptions(0.5, 2, 3), 0.0)
    assert (other.region_options, other.confidence) == (RegionOptions(0.3, 4, 9), 0.6)
    assert other.members[0].network is model.members[0].network


def test_a_folder_without_a_card_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no segmenter; give a folder of finetune-segmenter"):
        load_defect_segmenter(tmp_path, CPU)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    random_segmenter().save(tmp_path, {})
    with (tmp_path / TENSORS).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(WeightsError, match=r"is not what card\.json names"):
        load_defect_segmenter(tmp_path, CPU)


@pytest.mark.parametrize("change", ["lost", "reshaped", "not a number"])
def test_tensors_of_no_network_are_refused_under_a_right_hash(tmp_path: Path, change: str) -> None:
    random_segmenter().save(tmp_path, {})
    state = load_file(tmp_path / TENSORS)
    if change == "lost":
        state.pop("0.head.weight")
    else:
        shape = state["0.head.weight"].shape if change == "not a number" else (2, 2)
        state["0.head.weight"] = torch.full(shape, float("nan") if change == "not a number" else 1)
    save_file(state, tmp_path / TENSORS)
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**card, "sha256": sha256_of(tmp_path / TENSORS)}))
    with pytest.raises(WeightsError, match="train"):
        load_defect_segmenter(tmp_path, CPU)


def test_a_card_with_more_networks_than_the_file_is_refused(tmp_path: Path) -> None:
    random_segmenter().save(tmp_path, {})
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**card, "unseen": [[], []]}))
    with pytest.raises(WeightsError, match="does not fit its card"):
        load_defect_segmenter(tmp_path, CPU)
