from __future__ import annotations

from pathlib import Path

import pytest
from segmenters import random_segmenter

from pipeline.models import export
from pipeline.stages.export_model import export_model


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_a_graph_answers_as_the_mean_of_the_networks(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On pictures of 128 pixels, a sixteenth of the work."""
    monkeypatch.setattr(export, "_SEGMENTER_SIDE", 128)
    (tmp_path / "model").mkdir()
    random_segmenter([["a"], ["b"]], confidence=0.3).save(tmp_path / "model", {})
    graph = export_model(tmp_path / "model", tmp_path / "out", form=form)
    assert graph.largest_difference < 1e-3
    assert graph.input == (1, 3, 128, 128)
    assert graph.categories == ("crack", "stain")
    assert graph.confidence == 0.3
    assert "1 - background is 0.5 or more" in graph.output_values
    assert (tmp_path / "out" / graph.file).is_file()
