"""The front door: what `import pipeline` offers, and how quickly."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pipeline
from pipeline.cli import command
from pipeline.io.images import write_png

FUNCTION_OF = {
    "review": "review_labels",
    "export": "export_labels",
    "import": "import_labels",
    "next": "next_images",
}


def test_every_public_name_can_be_imported_and_is_documented() -> None:
    for name in pipeline.__all__:
        assert inspect.getdoc(getattr(pipeline, name)), name


def test_every_command_but_weights_is_a_function() -> None:
    verbs = {FUNCTION_OF.get(name, name.replace("-", "_")) for name in command.commands}
    assert verbs - {"weights"} <= set(pipeline.__all__)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'segments'"):
        _ = pipeline.segments


def test_the_import_is_lazy() -> None:
    heavy = ("torch", "cv2", "numpy", "pydantic", "click", "matplotlib")
    script = f"import pipeline, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_paths_may_be_text(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    write_png(tmp_path / "a.png", pixels)
    assert np.array_equal(pipeline.read_image(str(tmp_path / "a.png")), pixels)


def test_a_mask_image_has_an_instance_for_each_component(tmp_path: Path) -> None:
    mask = np.zeros((4, 5), np.uint8)
    mask[0, 0] = mask[3, 3:] = 255  # two components, of 1 and 2 pixels
    write_png(tmp_path / "mask.png", mask)
    from pipeline.geometry.masks import area

    assert [area(rle) for rle in pipeline.mask_instances(tmp_path / "mask.png")] == [1, 2]


def test_masks_become_arrays() -> None:
    from pipeline.geometry.masks import encode

    none = pipeline.Masks((), np.zeros(0, dtype=bool))
    assert none.to_array().shape == (0, 0, 0)
    mask = np.eye(3, 4, dtype=bool)
    two = pipeline.Masks((encode(mask), encode(~mask)), np.zeros(2, dtype=bool))
    assert np.array_equal(two.to_array(), [mask, ~mask])
