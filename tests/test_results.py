from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.results import StageResult, from_json


@dataclass(frozen=True)
class Score:
    """A figure that may be undefined."""

    value: float | None
    count: int


@dataclass(frozen=True, kw_only=True)
class Result(StageResult):
    """One of everything."""

    output: Path
    score: Score
    best: Score | None
    by_name: dict[str, Score]
    scores: tuple[Score, ...] = ()
    interval: tuple[float, float] | None = None


NONE = Score(None, 0)
RESULTS = [
    Result(output=Path("a"), score=NONE, best=None, by_name={}),
    Result(
        output=Path("a"),
        score=Score(0.5, 2),
        best=NONE,
        by_name={"x": NONE, "y": Score(1.0, 1)},
        scores=(NONE, NONE, Score(0.25, 4)),
        interval=(0.0, 1.0),
    ),
]


@pytest.mark.parametrize("result", RESULTS)
def test_a_result_survives_its_json_although_undefined_figures_are_left_out(
    result: Result,
) -> None:
    dumped = result.to_json()
    assert None not in dumped.values()
    assert from_json(Result, dumped, Path("run.json")) == result


def test_the_json_of_another_result_is_one_line() -> None:
    with pytest.raises(DataError, match=r"run\.json: its summary is not one of Result"):
        from_json(Result, {"output": "a"}, Path("run.json"))
