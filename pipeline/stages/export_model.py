"""`pipeline export-model`: a trained model as a graph for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.io.run_record import RunRecord
from pipeline.io.write import write_json


def export_model(model: Path, output: Path, form: str) -> dict[str, Any]:
    """Export the model of a folder as `onnx` or `openvino`, with a card that says what goes in and
    what comes out. Raises ConfigError for models that no single graph holds."""
    from pipeline.models.export import export_graph

    record = RunRecord("export-model", {"model": str(model), "format": form}, [model])
    with record.whole_folder(output) as folder:
        told = export_graph(model, folder, "onnx" if form == "onnx" else "openvino")
        write_json(folder / "graph.json", told)
        summary = {"output": str(output), **told}
        record.write(folder, summary)
    return summary
