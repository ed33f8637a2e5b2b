"""A converted set, which several files of tests spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small import draw_product

from pipeline.config.schema import ConvertConfig
from pipeline.stages.convert_masks import convert_masks


@pytest.fixture(scope="session")
def converted_widget(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("converted")
    convert_masks([draw_product(home / "widget")], home / "out", ConvertConfig())
    return home / "out"


@pytest.fixture
def good(converted_widget: Path, tmp_path: Path) -> Path:
    """A set to spoil."""
    return Path(shutil.copytree(converted_widget, tmp_path / "out"))
