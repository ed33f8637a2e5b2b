from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.metrics.anomaly import AnomalyScores
from pipeline.metrics.experiments import Difference, ExperimentScores
from pipeline.reports.anomaly import CategoryScores, ThresholdCounts
from pipeline.reports.comparison import ModelScores
from pipeline.results import StageResult, from_json
from pipeline.stages.anomaly import AnomalyResult
from pipeline.stages.classify import BinaryAccuracy, ClassifyResult
from pipeline.stages.compare import CompareResult
from pipeline.stages.study import StudyResult

OUT = Path("out")
CLASSIFIED = ClassifyResult(
    output=OUT, backbone="resnet18", weights="random", retrieval=False, trained_on=4, tested_on=2,
    right=1, accuracy=0.5, accuracy_interval=(0.1, 0.9), accuracy_of_commonest=0.5, macro_f1=0.5,
    f1={"good": None, "hole": 0.5}, training_loss=(1.0, 0.5),
)  # fmt: skip
PLAIN = ExperimentScores(
    backbone="resnet18", weights="random", macro_f1=0.5, accuracy=0.5,
    accuracy_interval=(0.1, 0.9), accuracy_bootstrap=(0.2, 0.8),
)  # fmt: skip
EXPERIMENTS = {
    "a": PLAIN,
    "b": replace(PLAIN, weights="ImageNet", published=0.9, by_shots={"few": 0.1}),
}
RESULTS: dict[str, StageResult] = {
    "anomaly without test images": AnomalyResult(
        output=OUT, model="vae", learned_from_good_images=2, tested_on=0
    ),
    "anomaly": AnomalyResult(
        output=OUT, model="patchcore", features="resnet18", learned_from_good_images=2, tested_on=2,
        image_auroc=1.0, image_auroc_interval=(0.9, 1.0), faults=("a.png: broken",),
        by_category={"hole": CategoryScores(1.0)}, at_threshold=ThresholdCounts(0, 1, 1, 1),
    ),
    "classify": CLASSIFIED,
    "classify with good images": replace(
        CLASSIFIED, f1={"good": 0.5}, good_or_defective=BinaryAccuracy(0.5, (0.1, 0.9))
    ),
    "study": StudyResult(
        output=OUT, images=4, learned_from={"hole": 1.5}, folds=2, repeats=1,
        experiments=EXPERIMENTS, differences={"b - a": Difference(0.0, 1.0, False)},
    ),
    "compare": CompareResult(
        output=OUT, images=2, defective=1,
        models={"classifier": ModelScores(labels=4, drawn="images", image_auroc=0.5)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_read_back_from_its_json(name: str) -> None:
    result = RESULTS[name]
    summary = json.loads(json.dumps(result.to_json()))
    assert from_json(type(result), summary, Path("run.json")) == result


def test_scores_that_are_not_defined_are_left_out() -> None:
    assert AnomalyScores() == AnomalyScores(image_auroc=None)
    result = RESULTS["anomaly without test images"]
    assert "image_auroc" not in result.to_json()
