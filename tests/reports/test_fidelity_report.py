from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.metrics.fidelity import Comparison, ObjectFidelity
from pipeline.reports.fidelity import fidelity_report, from_cell, to_cell
from pipeline.types import ImageRecord

UNCHANGED = ObjectFidelity(1.0, 1.0, 1, 1, 1, 1, 0, 0, 0.0)


def image(name: str) -> ImageRecord:
    return ImageRecord(1, Path("a.png"), name, height=4, width=6)


@pytest.mark.parametrize("name", ["a.png", "=cmd|' /C calc'!A0.png", "+1.png", "-1.png", "@x.png",
                                  "'quoted.png", "''=x.png", "train/=a.png"])  # fmt: skip
def test_no_image_is_a_formula_in_a_spreadsheet_and_its_name_comes_back(
    tmp_path: Path, name: str
) -> None:
    with fidelity_report(tmp_path) as report:
        report.add(image(name), {"coco": Comparison([UNCHANGED], [None])})
    with (tmp_path / "fidelity.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert not row["image"].startswith(("=", "+", "-", "@"))
    assert from_cell(row["image"]) == name


def test_plain_names_stay_as_they_are() -> None:
    assert to_cell("train/000.png") == "train/000.png"


def test_a_file_name_in_another_encoding_is_one_line(tmp_path: Path) -> None:
    comparison = {"\udce9": Comparison([UNCHANGED], [None])}
    with pytest.raises(DataError, match="not Unicode"), fidelity_report(tmp_path) as report:
        report.add(image("a.png"), comparison)
