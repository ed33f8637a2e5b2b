from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.schema import Experiment, StudyConfig
from pipeline.io.images import write_png
from pipeline.stages.study import study

pytestmark = pytest.mark.slow

QUICK = {"image_side": 32, "epochs": 3, "batch": 4, "learning_rate": 0.01, "unfreeze": "head"}


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """Red and blue images with noise, eight of each, and four good grey ones."""
    root = tmp_path / "paint"
    generator = np.random.default_rng(0)
    for kind, colour, count in (
        ("red", (200, 30, 30), 8), ("blue", (30, 30, 200), 8), ("good", (120, 120, 120), 4)
    ):  # fmt: skip
        for number in range(count):
            noise = generator.normal(0, 25, (40, 40, 3))
            image = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            write_png(root / "test" / kind / f"{number}.png", image)
            if kind != "good":
                mask = np.full((40, 40), 255, np.uint8)
                write_png(root / "ground_truth" / kind / f"{number}_mask.png", mask)
    return root


def experiment(**more: object) -> Experiment:
    return Experiment.model_validate({"backbone": "mobilenet_v2", **QUICK, **more})


def test_every_image_is_tested_once_a_repeat_and_colours_are_separated(
    product: Path, tmp_path: Path
) -> None:
    config = StudyConfig(
        experiments={
            "plain": experiment(published=0.5),
            "RAC": experiment(retrieval=True, loss="logit-adjusted", neighbours=3),
        },
        folds=2,
        repeats=2,
    )
    result = study(product, tmp_path / "out", config, device="cpu")
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    for repeat in range(2):
        assert sum(len(predictions["plain"][f"{repeat}_{fold}"]) for fold in range(2)) == 20
    assert result.experiments["plain"].accuracy > 0.8
    assert result.experiments["RAC"].accuracy > 0.8
    assert set(result.differences) == {"RAC - plain"}
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| plain | ImageNet | 0.5000 |" in text


def test_a_long_tail_is_trained_and_reported_by_shots(product: Path, tmp_path: Path) -> None:
    """Two folds leave four red, four blue, two good: thinned to 4, 2 and 1."""
    config = StudyConfig(
        experiments={"plain": experiment()}, folds=2, repeats=1, long_tail=(4, 1), shots=(1, 4)
    )
    result = study(product, tmp_path / "out", config, device="cpu")
    assert sorted(result.learned_from.values()) == [1, 2, 4]
    assert set(result.experiments["plain"].by_shots or {}) == {"many", "medium", "few"}
    assert "many / medium / few-shot" in (tmp_path / "out" / "table.md").read_text()
