"""Trainings of a run side by side: real ones, the smallest there are."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from discs import bytes_of
from pydantic import TypeAdapter
from small import draw_product

from pipeline.config.schema import AnomalyConfig, ClassifyConfig, RunConfig
from pipeline.errors import DataError
from pipeline.io.steps import Step
from pipeline.io.work_log import WorkLog
from pipeline.stages import run_group as stage
from pipeline.stages.anomaly import anomaly
from pipeline.stages.classify import classify
from pipeline.stages.run_group import run_group, trainings_at_once

PATCHES = AnomalyConfig(image_side=64, folds=2, coreset_ratio=0.2)


def trainings(product: Path, root: Path, side: int = 64) -> list[Step]:
    patches = PATCHES.model_copy(update={"image_side": side})
    classes = ClassifyConfig(epochs=1, image_side=64)
    fit = partial(anomaly, product, root / "anomaly", patches, device="cpu")
    train = partial(classify, product, root / "classifier", classes, device="cpu")
    return [
        Step("anomaly", root / "anomaly", {"side": side}, [product], fit),
        Step("classify", root / "classifier", {}, [product], train),
    ]


@pytest.mark.slow
def test_trainings_side_by_side_write_the_bytes_of_one_after_the_other_and_are_skipped_alike(
    tmp_path: Path, one_thread: None
) -> None:
    product = draw_product(tmp_path / "widget", {"crack": 4, "stain": 4}, 8, 4)
    for at_once in (1, 2):
        root = tmp_path / str(at_once)
        root.mkdir()
        with WorkLog(root / "steps.sqlite", "steps", TypeAdapter(str)) as log:
            first = run_group(trainings(product, root), log, at_once)
            written = bytes_of(root / "anomaly"), bytes_of(root / "classifier")
            assert run_group(trainings(product, root), log, at_once).keys() == first.keys()
            assert list(first) == ["anomaly", "classify"]
            assert written == (bytes_of(root / "anomaly"), bytes_of(root / "classifier"))
    for name in ("anomaly", "classifier"):
        assert bytes_of(tmp_path / "1" / name) == bytes_of(tmp_path / "2" / name)


@pytest.mark.slow
def test_what_is_done_before_a_training_fails_is_kept(tmp_path: Path) -> None:
    product = draw_product(tmp_path / "widget", {"crack": 4}, 8, 4)
    first, second = trainings(product, tmp_path)
    bad = Step(
        "classify", second.folder, {}, [], partial(anomaly, tmp_path / "none", tmp_path, PATCHES)
    )
    with WorkLog(tmp_path / "steps.sqlite", "steps", TypeAdapter(str)) as log:
        run_group([first], log, 2)
        with pytest.raises(DataError, match="none"):
            run_group([first, bad], log, 2)
        assert log.get("anomaly")
        assert log.get("classify") is None


@pytest.mark.parametrize(
    ("given", "cpus", "device", "expected"),
    [(None, 1, "cpu", 1), (None, 2, "cpu", 2), (None, 64, "cpu", 2), (3, 1, "cpu", 3)],
)
def test_two_trainings_run_side_by_side_where_there_are_two_cpus(
    monkeypatch: pytest.MonkeyPatch, given: int | None, cpus: int, device: str, expected: int
) -> None:
    monkeypatch.setattr(stage, "available_cpus", lambda: cpus)
    config = RunConfig(trainings_at_once=given, device=device)
    assert trainings_at_once(config) == expected
