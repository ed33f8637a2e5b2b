"""The models of a run beside each other: a table, and what the plot shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.metrics.anomaly import AnomalyScores
from pipeline.visualization.plots import Figure, LabelsAndQuality


@dataclass(frozen=True, kw_only=True)
class ModelScores(AnomalyScores):
    """Figures of one model. labels: number of labels it learned from; drawn: what a label is."""

    labels: int
    drawn: str


def table(rows: Mapping[str, ModelScores]) -> str:
    """A Markdown table, a row for each model."""
    head = "| model | labels | image AUROC | image AP | pixel AUROC | AUPRO | pixel AP |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for name, row in rows.items():
        cells = [
            _cell(row.image_auroc, row.image_auroc_interval),
            _cell(row.image_ap),
            _cell(row.pixel_auroc),
            _cell(row.aupro, row.aupro_interval),
            _cell(row.pixel_ap),
        ]
        lines.append(f"| {name} | {row.labels} {row.drawn} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(value: float | None, interval: Sequence[float] | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" ({interval[0]:.3f}-{interval[1]:.3f})" if interval else "")


def plotted_figures(row: ModelScores) -> LabelsAndQuality:
    """The figures that the plot shows."""

    def figure(value: float | None, interval: tuple[float, float] | None) -> Figure | None:
        return None if value is None else Figure(value, interval)

    return LabelsAndQuality(
        labels=row.labels,
        image_auroc=figure(row.image_auroc, row.image_auroc_interval),
        aupro=figure(row.aupro, row.aupro_interval),
    )
