"""`pipeline export-model`: a trained model as a graph for another runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.io.run_record import RunRecord
from pipeline.io.write import write_json
from pipeline.results import StageResult


@dataclass(frozen=True, kw_only=True)
class ExportModelResult(StageResult):
    """The graph, and what goes into it and comes out, as graph.json has it.

    input: shape (1, 3, S, S); the first may be any number. largest_difference: from torch's output,
    as a share of its largest value.
    """

    output: Path
    file: str
    input: tuple[int, ...]
    pixels: str
    output_values: str
    categories: tuple[str, ...] | None
    confidence: float | None
    largest_difference: float


def export_model(model: Path, output: Path, *, form: str = "onnx") -> ExportModelResult:
    """Export the model of a folder as `onnx` or `openvino`, with graph.json beside it.

    Raises ConfigError for models that no single graph holds."""
    from pipeline.models.export import export_graph

    record = RunRecord("export-model", {"model": str(model), "format": form}, [model])
    with record.whole_folder(output) as folder:
        graph = export_graph(model, folder, "onnx" if form == "onnx" else "openvino")
        result = ExportModelResult(
            output=output,
            file=graph.file,
            input=graph.input,
            pixels=graph.signature.pixels,
            output_values=graph.signature.output,
            categories=graph.signature.categories,
            confidence=graph.signature.confidence,
            largest_difference=graph.largest_difference,
        )
        summary = result.to_json()
        card = {name: value for name, value in summary.items() if name != "output"}
        write_json(folder / "graph.json", card)
        record.write(folder, summary)
    return result
