from __future__ import annotations

import json
import subprocess
import sys
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


def test_a_command_loads_the_format_that_it_needs_alone() -> None:
    """All readers, and the configurations of all commands, take as long as the rest of a start."""
    script = (
        "import sys; from pipeline.cli.generated import config_of, settings_of;"
        "from pipeline.formats.registry import FORMATS;"
        "list(settings_of(config_of('ExportConfig')));"
        "print([name for name in sys.modules if name.startswith(('pipeline.formats.', "
        "'pipeline.config.')) and name.rpartition('.')[2] in {'cvat', 'label_studio', 'labelme', "
        "'mvtec', 'voc', 'yolo', 'yolo_reader', 'schema', 'detection'}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['pipeline.formats.schema']\n"  # that of label files
