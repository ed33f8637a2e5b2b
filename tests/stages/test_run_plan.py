"""What a run does in a given time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.schema import (
    FinetuneConfig,
    FinetuneSamConfig,
    FinetuneSegmenterConfig,
    RunConfig,
)
from pipeline.stages import run_plan
from pipeline.stages.run_plan import PLAN, Costs, Counts, choose, planned

CONFIG = RunConfig(
    finetune=FinetuneConfig(epochs=10, image_side=288),
    finetune_sam=FinetuneSamConfig(steps=100, folds=2),
    finetune_segmenter=FinetuneSegmenterConfig(decoder_steps=200, steps=100, folds=2),
)
COUNTS = Counts(photos=20, masks=10, held_out=5)
COSTS = Costs(
    detector=10, detector_photo=1, sam=20, sam_step=1, sam_mask=2, decoder_step=0.5, step=1,
    segmenter_photo=1, label_photo=2, rest=40, side_by_side=2,
)  # fmt: skip
FIXED = 40 + 10 + (20 + 10 * 2) + 25 + 25 * 2  # whatever the steps: 165
TRAINED = 10 * 20 + 2 * 100 + 2 * (200 * 0.5 + 100)  # at the steps of the configuration: 800


def test_each_training_takes_the_same_share_of_its_steps() -> None:
    """A unit of 0.1 s; half of every training is (165 + 400) x 0.1 s, and 8 % are left free."""
    plan = choose(CONFIG, COUNTS, (FIXED + TRAINED / 2) * 0.1 / 0.92 + 1e-3, 0.1, COSTS)
    assert plan.factor == pytest.approx(0.5, abs=5e-3)  # steps are whole numbers
    assert (plan.epochs, plan.sam_steps, plan.decoder_steps, plan.steps) == (5, 50, 100, 50)
    assert plan.seconds == {
        "the rest": 4.0, "detector": 11.0, "SAM": 14.0, "segmenter": 22.5, "labels": 5.0
    }  # fmt: skip


def test_trainings_side_by_side_take_their_share_of_the_time() -> None:
    """They end twice as soon; what follows them takes as long as before."""
    plan = choose(CONFIG, COUNTS, 1e6, 0.1, COSTS, at_once=2)
    alone = choose(CONFIG, COUNTS, 1e6, 0.1, COSTS)
    shares = {name: plan.seconds[name] / alone.seconds[name] for name in plan.seconds}
    assert shares == pytest.approx(
        {"the rest": 1, "detector": 0.5, "SAM": 0.5, "segmenter": 0.5, "labels": 1}, rel=1e-3
    )


@given(st.floats(1, 10_000), st.floats(0.01, 5))
def test_a_plan_ends_in_time_or_is_the_shortest(seconds: float, unit: float) -> None:
    plan = choose(CONFIG, COUNTS, seconds, unit, COSTS)
    in_time = sum(plan.seconds.values()) <= seconds * 0.92 + 1
    assert in_time or plan.factor == pytest.approx(0.1, rel=1e-3)


@given(st.floats(10, 5_000))
def test_more_time_never_means_fewer_steps(seconds: float) -> None:
    short, long = (choose(CONFIG, COUNTS, each, 0.1, COSTS) for each in (seconds, seconds * 1.5))
    assert short.steps <= long.steps
    assert short.epochs <= long.epochs


def test_what_a_run_does_not_train_costs_nothing() -> None:
    config = CONFIG.model_copy(update={"tune_sam": False, "finetune_segmenter": None})
    plan = choose(config, COUNTS, 100, 0.1, COSTS)
    assert set(plan.seconds) == {"the rest", "detector"}
    assert plan.apply(config).finetune_segmenter is None


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notices: list[str]) -> Path:
    """The folder of a run on a machine that seems half as fast each time."""
    units = iter((0.1, 0.2, 0.4))
    monkeypatch.setattr(run_plan, "say", notices.append)
    monkeypatch.setattr(run_plan, "count", lambda data, keep_going: COUNTS)
    monkeypatch.setattr(
        "pipeline.models.segmentation.step_time.step_seconds", lambda device: next(units)
    )
    return tmp_path


def test_a_run_that_goes_on_keeps_its_plan(root: Path, notices: list[str]) -> None:
    config = CONFIG.model_copy(update={"output": root})
    first = planned(config, 4, elapsed=20, at_once=1)
    assert notices[0].startswith("[plan] 4 minutes: detector ")
    assert planned(config, 4, elapsed=90, at_once=1) == first
    assert planned(config, 5, elapsed=20, at_once=1) != first


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"for": 1, "plan": {}}'])
def test_a_damaged_plan_is_made_again(root: Path, text: str) -> None:
    (root / PLAN).write_text(text)
    planned(CONFIG.model_copy(update={"output": root}), 4, elapsed=0, at_once=1)
    assert json.loads((root / PLAN).read_text())["for"]["minutes"] == 4


def test_too_few_minutes_are_told(root: Path, notices: list[str]) -> None:
    planned(CONFIG.model_copy(update={"output": root}), 0.1, elapsed=0, at_once=1)
    assert "this is the least that a run does" in notices[-1]
