"""Plots as PNG files. The same values give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.cache_root import use_for_matplotlib
from pipeline.io.write import write_bytes

_INK, _ACCENT, _SOFT = "#1f2933", "#d64545", "#7b8794"
_LINES = (_SOFT, _ACCENT, "#334e68", "#829ab1", "#f0b429", "#3fb06d")
_MARKERS = "os^Dvp"


def training_curves(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Losses and box AP by epoch. rows: of ultralytics' results.csv."""
    epochs = [int(row["epoch"]) for row in rows]
    figure, axes = _figure(1, 2, (9, 3.2))
    for key in rows[0] if rows else ():
        if key.startswith("train/"):
            axes[0].plot(epochs, [float(row[key]) for row in rows], label=key.split("/")[1])
        elif "mAP" in key:
            name = "AP50-95" if "95" in key else "AP50"
            axes[1].plot(epochs, [float(row[key]) for row in rows], label=name)
    axes[0].set(title="training loss", xlabel="epoch")
    axes[1].set(title="box AP on val", xlabel="epoch", ylim=(0, 1))
    for axis in axes:
        axis.legend(frameon=False)
    _save(figure, path)


def bars(path: Path, title: str, values: Mapping[str, float], unit: str = "") -> None:
    """One horizontal bar for each name, sorted by length."""
    names = sorted(values, key=lambda name: values[name])
    figure, axes = _figure(1, 1, (6.5, 0.6 + 0.32 * max(len(names), 1)))
    drawn = axes[0].barh(names, [values[name] for name in names], color=_ACCENT)
    axes[0].bar_label(drawn, padding=3, color=_INK)
    axes[0].set(title=title, xlabel=unit)
    _save(figure, path)


def grouped_bars(path: Path, title: str, series: Mapping[str, Mapping[str, float]]) -> None:
    """For each name, the bars of all series side by side. Values are in [0, 1]."""
    names = list(next(iter(series.values()), {}))
    figure, axes = _figure(1, 1, (max(6.5, 1.1 * len(names)), 3.4))
    width = 0.8 / max(len(series), 1)
    colours = [_ACCENT, _SOFT, "#bcccdc", "#334e68", "#829ab1"]
    for index, (label, values) in enumerate(series.items()):
        at = np.arange(len(names)) + (index - (len(series) - 1) / 2) * width
        heights = [values.get(name, float("nan")) for name in names]
        axes[0].bar(at, heights, width * 0.94, label=label, color=colours[index % len(colours)])
    axes[0].set(title=title, ylim=(0, 1))
    axes[0].set_xticks(np.arange(len(names)), names, rotation=20, ha="right")
    axes[0].legend(
        frameon=False, ncols=len(series), loc="upper center", bbox_to_anchor=(0.5, -0.28)
    )
    _save(figure, path)


def curves(
    path: Path,
    positions: Sequence[float] | Sequence[str],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    across: str,
    up: str,
) -> None:
    """One panel for each title, with one line for each name. Values are in [0, 1].

    positions: of the values on the x axis. across, up: names of the axes.
    """
    figure, axes = _figure(1, len(panels), (4.5 * len(panels), 3.4))
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for index, (name, values) in enumerate(lines.items()):
            colour, marker = _LINES[index % len(_LINES)], _MARKERS[index % len(_MARKERS)]
            axis.plot(positions, values, marker=marker, color=colour, label=name)
        axis.set(title=title, xlabel=across, ylabel=up, ylim=(0, 1))
        axis.legend(frameon=False)
    _save(figure, path)


Pairs = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]  # expected and true, (N,)


def reliability(path: Path, series: Mapping[str, Pairs]) -> None:
    """Expected against true IoU of the masks of each series, each (N,) in [0, 1], and the means of
    five equal groups of all masks, sorted by expected IoU."""
    reliability_panels(path, {"": series})


def reliability_panels(path: Path, panels: Mapping[str, Mapping[str, Pairs]]) -> None:
    """One `reliability` beside another, each with its title."""
    figure, axes = _figure(1, len(panels), (4.6 * len(panels), 4.4))
    for axis, (title, series) in zip(axes, panels.items(), strict=True):
        _reliability(axis, series)
        axis.set(title=title)
    _save(figure, path)


def _reliability(axis: Any, series: Mapping[str, Pairs]) -> None:
    axis.plot([0, 1], [0, 1], color=_SOFT, linewidth=1, label="as expected")
    for index, (name, pair) in enumerate(series.items()):
        colour, marker = ("#829ab1", "#334e68")[index % 2], _MARKERS[index % len(_MARKERS)]
        axis.scatter(*pair, s=14, alpha=0.5, color=colour, marker=marker, label=name)
    expected, true = (np.concatenate([pair[i] for pair in series.values()]) for i in (0, 1))
    groups = np.array_split(np.argsort(expected, kind="stable"), min(5, max(len(expected), 1)))
    points = [(expected[group].mean(), true[group].mean()) for group in groups if len(group)]
    axis.plot(*zip(*points, strict=True), marker="o", color=_ACCENT, label="mean of a fifth")
    axis.set(xlabel="expected IoU", ylabel="true IoU", xlim=(0, 1), ylim=(0, 1))
    axis.legend(frameon=False, loc="upper left")


def trade_off(
    path: Path, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], across: str, up: str
) -> None:
    """A stepped line (x, y) for each name. across, up: names of the axes, from 0."""
    figure, axes = _figure(1, 1, (5.2, 4.0))
    for index, (name, (x, y)) in enumerate(lines.items()):
        axes[0].step(x, y, where="post", color=_LINES[index % len(_LINES)], label=name)
    axes[0].set(xlabel=across, ylabel=up, xlim=(0, None), ylim=(0, 1.02))
    axes[0].legend(frameon=False)
    _save(figure, path)


def score_strips(
    path: Path, scores: Mapping[str, Sequence[float]], limit: float, across: str
) -> None:
    """The score of every image, with one row for each category, and the limit from which an image
    is called defective. across: name of the x axis."""
    figure, axes = _figure(1, 1, (6.5, 0.9 + 0.36 * max(len(scores), 1)))
    for row, values in enumerate(scores.values()):
        jitter = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else [0.0]
        axes[0].scatter(values, row + np.asarray(jitter), s=14, alpha=0.7, color=_ACCENT)
    axes[0].axvline(limit, color=_INK, linewidth=1)
    axes[0].set_yticks(np.arange(len(scores)), list(scores))
    axes[0].invert_yaxis()
    axes[0].set(xlabel=across)
    _save(figure, path)


def intervals(
    path: Path,
    across: str,
    rows: Mapping[str, tuple[float, float, float]],
    marks: Mapping[str, float],
) -> None:
    """One figure (value, low, high) in [0, 1] in each row. marks: published values by row."""
    figure, axes = _figure(1, 1, (6.5, 0.9 + 0.42 * max(len(rows), 1)))
    for row, (name, (value, low, high)) in enumerate(rows.items()):
        axes[0].errorbar(
            [value], [row], xerr=[[value - low], [high - value]], fmt="o", color=_ACCENT, capsize=3
        )
        if name in marks:
            axes[0].plot([marks[name]], [row], "x", color=_SOFT)
    axes[0].set_yticks(np.arange(len(rows)), list(rows))
    axes[0].invert_yaxis()
    axes[0].set(xlabel=f"{across}{'; x: published' if marks else ''}", xlim=(0, 1))
    _save(figure, path)


@dataclass(frozen=True)
class Figure:
    """A figure in [0, 1], and its 95 % interval where there is one."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class LabelsAndQuality:
    """The number of labels that a model learned from, its image AUROC, and its AUPRO."""

    labels: int
    image_auroc: Figure | None = None
    aupro: Figure | None = None


def labels_against_quality(path: Path, rows: Mapping[str, LabelsAndQuality]) -> None:
    """The number of labels of each model, against its image AUROC and its AUPRO. rows: by model."""
    panels = {
        "which image is defective": ("image AUROC", [row.image_auroc for row in rows.values()]),
        "which pixels are": ("AUPRO", [row.aupro for row in rows.values()]),
    }
    figure, axes = _figure(1, 2, (9.5, 3.8))
    for axis, (title, (key, values)) in zip(axes, panels.items(), strict=True):
        for index, ((name, row), one) in enumerate(zip(rows.items(), values, strict=True)):
            if one is None:
                continue
            low, high = one.interval or (one.value, one.value)
            error = [[max(one.value - low, 0)], [max(high - one.value, 0)]]
            colour = (_ACCENT, "#334e68", "#829ab1", "#3fb06d", "#f0b429", "#9659c8")[index % 6]
            axis.errorbar(
                [row.labels + 0.06 * index * (row.labels or 1)], [one.value],
                yerr=error if one.interval else None, fmt="o", color=colour, capsize=3, label=name,
            )  # fmt: skip
        axis.set_xscale("symlog", linthresh=1)
        axis.set_xlim(left=-0.3)
        axis.set(title=title, xlabel="labels learned from", ylabel=key)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, names, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.91, 0.9)
    )
    _save(figure, path)


def confusion(path: Path, matrix: NDArray[np.int64], categories: Sequence[str]) -> None:
    """A confusion matrix of counts (C, C): a row for each true category, a column for each
    predicted one."""
    side = 2.2 + 0.55 * len(categories)
    figure, axes = _figure(1, 1, (side + 0.8, side))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes[0].imshow(shares, cmap="Reds", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if shares[row, column] > 0.6 else _INK
        axes[0].text(column, row, str(count), ha="center", va="center", color=colour)
    ticks = np.arange(len(categories))
    axes[0].set_xticks(ticks, categories, rotation=45, ha="right")
    axes[0].set_yticks(ticks, categories)
    axes[0].set(xlabel="predicted", ylabel="true")
    _save(figure, path)


def size_scatter(path: Path, sizes: Mapping[str, NDArray[np.float64]]) -> None:
    """Width against height of every instance, as fractions of the image, with one colour for each
    category. sizes: (N, 2) by category."""
    figure, axes = _figure(1, 1, (5.5, 4.6))
    for name, points in sizes.items():
        axes[0].scatter(points[:, 0], points[:, 1], s=14, alpha=0.7, label=name)
    axes[0].set(title="instance sizes", xlabel="width / image", ylabel="height / image")
    axes[0].set(xscale="log", yscale="log")
    if sizes:
        axes[0].legend(frameon=False, fontsize=7)
    _save(figure, path)


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    use_for_matplotlib()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)
    write_bytes(path, buffer.getvalue())
