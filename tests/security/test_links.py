"""A link that leads out of the named folder brings nothing in, whichever command reads it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def linked(make_product: Callable[..., Path], tmp_path: Path) -> Path:
    """A product of which one image is a link to a photo elsewhere."""
    product = make_product({"crack": 3})
    photo = product / "test" / "crack" / "000.png"
    photo.rename(tmp_path / "private.png")
    photo.symlink_to(tmp_path / "private.png")
    return product


def pipeline(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    [
        ["stats", "PRODUCT"],
        ["convert-masks", "PRODUCT", "-o", "OUT"],
        ["classify", "--data", "PRODUCT", "-o", "OUT"],
        ["anomaly", "--data", "PRODUCT", "-o", "OUT"],
        ["segment", "--detector", "OUT", "--images", "PRODUCT/test/crack", "-o", "OUT"],
        ["study", "STUDY", "--data", "PRODUCT", "-o", "OUT"],
    ],
)
def test_every_command_refuses_an_image_that_leads_outside(
    linked: Path, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "study.yaml").write_text("experiments: {a: {backbone: resnet18}}\n")
    names = {"PRODUCT": linked, "OUT": tmp_path / "out", "STUDY": tmp_path / "study.yaml"}
    words = command
    for name, path in names.items():
        words = [word.replace(name, str(path)) for word in words]
    done = pipeline(*words)
    assert done.returncode == 2, done.stderr
    assert "000.png: leads to" in done.stderr.splitlines()[-1]
    assert "--allow-outside" in done.stderr
    assert not (tmp_path / "out").exists()


def test_it_is_let_in_by_the_word_of_the_user(linked: Path, tmp_path: Path) -> None:
    done = pipeline("convert-masks", linked, "-o", tmp_path / "out", "--allow-outside", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert pipeline("stats", linked, "--allow-outside", "--quiet").returncode == 0
