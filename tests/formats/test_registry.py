from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.formats import registry
from pipeline.formats.registry import (
    FORMATS,
    Format,
    register,
    without_image_check,
    without_polygons,
)
from pipeline.types import Dataset


def write_names(root: Path, dataset: Dataset, copy_images: bool = False) -> None:
    root.mkdir(parents=True)
    (root / "names.json").write_text(json.dumps(dataset.categories))


def read_names(source: Path, images: Path | None = None) -> Dataset:
    return Dataset(tuple(json.loads((source / "names.json").read_text())), ())


def test_a_registered_format_is_one_of_the_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = Format("names", without_polygons(write_names), without_image_check(read_names))
    monkeypatch.setitem(registry._FORMATS, "names", form)  # to be removed after the test
    del registry._FORMATS["names"]
    register("names", form)
    FORMATS["names"].write(tmp_path / "out", Dataset(("crack",), ()), False, 0.0)
    assert FORMATS["names"].read(tmp_path / "out", None).categories == ("crack",)
    with pytest.raises(ConfigError, match="there is a format names; choose another name"):
        register("names", form)
