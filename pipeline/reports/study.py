"""The tables and the plot of a study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.metrics.experiments import Difference, ExperimentScores
from pipeline.visualization.plots import intervals


def plot_accuracies(path: Path, experiments: Mapping[str, ExperimentScores]) -> None:
    """Plot each experiment's accuracy with its interval, and the published one."""
    rows = experiments.items()
    accuracies = {name: (row.accuracy, *row.accuracy_interval) for name, row in rows}
    published = {name: row.published for name, row in rows if row.published is not None}
    intervals(path, "accuracy, 95 %", accuracies, published)


def study_tables(
    experiments: Mapping[str, ExperimentScores], differences: Mapping[str, Difference]
) -> str:
    """Markdown tables: a row for each experiment, and one for each difference."""
    tail = any(row.by_shots is not None for row in experiments.values())
    head = ["experiment", "weights", "published", "accuracy (95 %, Wilson)", "(bootstrap)"]
    head += ["macro F1", *(["many / medium / few-shot"] if tail else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, row in experiments.items():
        low, high = row.accuracy_interval
        low2, high2 = row.accuracy_bootstrap
        published = "-" if row.published is None else f"{row.published:.4f}"
        cells = [name, row.weights, published, f"{row.accuracy:.3f} ({low:.3f}-{high:.3f})"]
        cells += [f"({low2:.3f}-{high2:.3f})", f"{row.macro_f1:.3f}"]
        if tail:
            shares = ((row.by_shots or {}).get(group) for group in ("many", "medium", "few"))
            cells.append(" / ".join("-" if s is None else f"{s:.3f}" for s in shares))
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| difference | accuracy | p (Holm) | real? |", "|---|---|---|---|"]
    for name, one in differences.items():
        real = "yes" if one.real else "no"
        lines.append(f"| {name} | {one.accuracy:+.3f} | {one.p:.3f} | {real} |")
    return "\n".join(lines) + "\n"
