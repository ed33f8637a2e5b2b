from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest
from pydantic import JsonValue, ValidationError

from pipeline.config.schema import RunConfig, SegmentConfig
from pipeline.errors import DataError
from pipeline.io.locks import folder_lock
from pipeline.io.steps import Step
from pipeline.io.write import write_json
from pipeline.results import StageResult
from pipeline.stages import run as stage
from pipeline.stages import run_baselines, run_labeller
from pipeline.stages.report import ReportResult

Run = Callable[[], dict[str, dict[str, JsonValue]]]


@dataclass(frozen=True, kw_only=True)
class Counted(StageResult):
    """The result of the only step."""

    images: int


@pytest.fixture
def done() -> list[str]:
    return []


@pytest.fixture
def one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: list[str]) -> Run:
    """A run of one step, which notes that it was done."""
    folder, inputs = tmp_path / "run" / "step", tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "a.txt").write_text("1")

    def work() -> Counted:
        done.append("step")
        write_json(folder / "run.json", {"command": "step", "summary": {"images": 3}})
        return Counted(images=3)

    step = Step("step", folder, {}, [inputs], work)
    monkeypatch.setattr(stage, "_groups", lambda *_: [[step]])
    report = ReportResult(report=tmp_path / "report.html", size_kb=0)
    monkeypatch.setattr(stage, "report", lambda root: report)
    return lambda: stage.run(RunConfig(output=tmp_path / "run")).steps


def test_a_step_is_done_once_and_skipped_with_its_result(one_step: Run, done: list[str]) -> None:
    assert one_step()["step"] == one_step()["step"] == {"images": 3}
    assert done == ["step"]


@pytest.mark.parametrize("name", ["a.cache", "b/run.json", "manifest.jsonl"])
def test_what_a_run_leaves_behind_is_no_part_of_a_steps_inputs(
    one_step: Run, done: list[str], tmp_path: Path, name: str
) -> None:
    one_step()
    (tmp_path / "inputs" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "inputs" / name).write_text("{}")
    one_step()
    assert done == ["step"]
    (tmp_path / "inputs" / "b.txt").write_text("new")
    one_step()
    assert done == ["step", "step"]


@pytest.mark.parametrize("text", ["", "null", "[1]", '{"step": ', "\0", '{"step": [1]}'])
def test_a_damaged_log_of_steps_means_that_all_are_done_again(
    one_step: Run, done: list[str], tmp_path: Path, text: str
) -> None:
    one_step()
    (tmp_path / "run" / "steps.sqlite").write_text(text)
    one_step()
    one_step()
    assert done == ["step", "step"]


@pytest.mark.parametrize("text", ["", "null", "[1]", '{"command": "step"}', '{"summary": 3}'])
def test_a_skipped_step_whose_record_is_damaged_has_no_result(
    one_step: Run, done: list[str], tmp_path: Path, text: str
) -> None:
    one_step()
    (tmp_path / "run" / "step" / "run.json").write_text(text)
    assert one_step()["step"] == {}
    assert done == ["step"]


def test_a_second_run_into_one_folder_ends_with_a_line_that_names_the_first(
    one_step: Run, done: list[str], tmp_path: Path
) -> None:
    with (
        folder_lock(tmp_path / "run", "run"),
        pytest.raises(DataError, match=rf"written by process {os.getpid()} \(`pipeline run`"),
    ):
        one_step()
    assert not done
    one_step()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("missing", ["", "detector/out_of_fold.json", "sam/folds/0/x"])
def test_found_masks_are_calibrated_where_detector_and_sam_have_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A wish goes to the detector's boxes alone: those of the truth have no score."""
    for name in {"detector/out_of_fold.json", "sam/folds/0/x"} - {missing}:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    given: list[tuple[str, Path | None, float | None]] = []

    def noted(*_: object, trust: Path | None, config: SegmentConfig, **__: object) -> StageResult:
        given.append((Path(config.sam).name, trust, config.recall))
        return StageResult()

    monkeypatch.setattr(stage, "segment", noted)
    config = RunConfig.model_validate({"finetune": {"folds": 2}, "segment": {"recall": 0.9}})
    names = []
    groups = stage._work_groups(config, tmp_path, [tmp_path / "p"], False)
    for step in chain.from_iterable(groups):
        names.append(step.name)
        if step.name.startswith("segment"):
            step.work()
    trust = None if missing else tmp_path / "trust"
    assert ("calibrate" in names) is (trust is not None)
    assert given == [("sam", None, None), ("sam", trust, 0.9 if trust else None)]


def test_a_wish_without_folds_is_refused_before_the_run() -> None:
    with pytest.raises(ValidationError, match=r"need finetune\.folds: 2"):
        RunConfig.model_validate({"segment": {"recall": 0.9}})


@pytest.mark.parametrize("overwrite", [False, True])
def test_unfinished_work_of_other_settings_goes_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    given: dict[str, bool] = {}
    verbs = {
        "finetune_yolo": stage, "finetune_sam": stage, "segment": stage, "classify": run_baselines,
        "anomaly": run_baselines, "finetune_segmenter": run_labeller,
    }  # fmt: skip
    for name, module in verbs.items():

        def noted(*_: object, overwrite: bool, name: str = name, **__: object) -> StageResult:
            given[name] = overwrite
            return StageResult()

        monkeypatch.setattr(module, name, noted)
    config = RunConfig(output=tmp_path / "run", tune_sam=True)
    groups = stage._groups(config, tmp_path / "run", [tmp_path / "p"], overwrite)
    for step in chain.from_iterable(groups):
        if step.name.startswith(("finetune", "segment", "classify", "anomaly")):
            step.work()
    assert given == dict.fromkeys(verbs, overwrite)
