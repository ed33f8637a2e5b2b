"""What finetune-sam came to: SAM before and after on photos that were held out, beside what needs
no SAM; how well the expected IoU holds; and what becomes of masks when boxes are off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.metrics.intervals import bootstrap_mean, bootstrap_rank_correlation, rank_correlation
from pipeline.metrics.masks import mean_by
from pipeline.models.baselines import BoxFillSegmenter, GrabCutSegmenter, MeanShapeSegmenter
from pipeline.models.sam.calibration import Calibration
from pipeline.models.sam.evaluation import Evaluation, Instance, evaluate_boxes, perturb_boxes
from pipeline.types import EXPECTED_IOU, Segmenter
from pipeline.visualization.plots import curves, grouped_bars

_ERRORS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
_CURVE_TARGETS = 60


def beside(published: Segmenter, known: Sequence[Instance]) -> dict[str, Segmenter]:
    """What a tuned SAM has to beat: itself as published, and three ways that need no SAM."""
    shapes = [mask_geometry.to_patch(target.mask).pixels for target in known]
    return {
        "zero_shot": published,
        "mean_shape": MeanShapeSegmenter(shapes),
        "box_fill": BoxFillSegmenter(),
        "grabcut": GrabCutSegmenter(),
    }


def compare(
    folder: Path,
    tuned: Segmenter,
    calibration: Calibration | None,
    others: Mapping[str, Segmenter],
    held: Sequence[Instance],
) -> tuple[dict[str, Any], Evaluation]:
    """Mask IoU of each on held-out objects from their true boxes, by category, the tuned one's
    gain over the others with its interval, and a picture in `folder`. Also what the tuned one came
    to."""
    trials = {"tuned": evaluate_boxes(tuned, held, title="test, tuned", calibration=calibration)}
    trials |= {
        name: evaluate_boxes(way, held, title=f"test, {name}") for name, way in others.items()
    }
    groups = [target.group for target in held]
    categories = [target.category for target in held]
    ways = {name: _figures(trial, categories, groups) for name, trial in trials.items()}
    gains = {
        f"gain_over_{name}": _mean(trials["tuned"].iou - trials[name].iou, groups)
        for name in trials
        if name != "tuned"
    }
    series = {
        name.replace("_", " "): {key: row["mean"] for key, row in way["by_category"].items()}
        for name, way in ways.items()
    }
    grouped_bars(folder / "mask_iou.png", "mask IoU from true boxes, held-out photos", series)
    summary: dict[str, Any] = {
        "held_out": {"masks": len(held), "photos": len(set(groups))},
        **ways,
        **gains,
        "quality": _quality(trials["tuned"], groups),
    }
    return summary, trials["tuned"]


def _figures(trial: Evaluation, categories: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
    by_category = mean_by(categories, trial.iou.tolist())
    return {
        "mask_iou": _mean(trial.iou, groups),
        "by_category": {
            name: {"mean": round(mean, 4), "count": count}
            for name, (mean, count) in by_category.items()
        },
    }


def _mean(values: NDArray[np.float64], groups: Sequence[str]) -> list[float]:
    """Mean, and its 95 % interval over photos."""
    low, high = bootstrap_mean(values.tolist(), groups=groups)
    return [round(float(value), 4) for value in (values.mean(), low, high)]


def _quality(tuned: Evaluation, groups: Sequence[str]) -> dict[str, Any]:
    """How each figure of quality ranks the held-out masks, and how well the expected IoU holds."""
    ranks = {
        name: round(rank_correlation(column.tolist(), tuned.iou.tolist()), 4)
        for name, column in tuned.quality.items()
        if not np.isnan(rank_correlation(column.tolist(), tuned.iou.tolist()))
    }
    found: dict[str, Any] = {"rank_correlation": ranks}
    if EXPECTED_IOU in tuned.quality:
        found |= trust(tuned.quality[EXPECTED_IOU], tuned.iou, groups)
    return found


def trust(
    expected: NDArray[np.float32], true: NDArray[np.float64], groups: Sequence[str]
) -> dict[str, Any]:
    """How well an expected IoU (N,) holds: its mean error, and how it ranks masks, with the 95 %
    interval over photos; nothing that cannot be told."""
    found: dict[str, Any] = {}
    if len(true):
        found["mean_error_of_expected_iou"] = round(float(np.abs(expected - true).mean()), 4)
    pairs = expected.tolist(), true.tolist()
    rank = rank_correlation(*pairs)
    if not np.isnan(rank):
        interval = bootstrap_rank_correlation(*pairs, groups)
        found["rank_of_expected_iou"] = [round(value, 4) for value in (rank, *interval)]
    return found


def trusted(
    expected: NDArray[np.float32], true: NDArray[np.float64], unseen: Sequence[Instance]
) -> dict[str, Any]:
    """The IoU of masks that SAM had not seen, and how well it was expected."""
    groups = [target.group for target in unseen]
    return {"masks": len(unseen), "mask_iou": _mean(true, groups), **trust(expected, true, groups)}


def robustness(
    folder: Path, ways: Mapping[str, Segmenter], held: Sequence[Instance]
) -> dict[str, dict[str, list[float]]]:
    """Mask IoU from boxes that are off by 0 to 40 % of their sides, as a picture in `folder`: of
    every way by its name, on at most so many objects."""
    drawn = np.random.default_rng(0).permutation(len(held))[:_CURVE_TARGETS]
    some = [held[index] for index in sorted(drawn)]
    found: dict[str, dict[str, list[float]]] = {}
    for kind in ("shift", "scale"):
        found[kind] = {
            name: [
                round(
                    float(
                        evaluate_boxes(
                            way, some, perturb_boxes(some, kind, e), f"{kind} {e:.0%}, {name}"
                        )
                        .iou.mean()
                    ),
                    4,
                )
                for e in _ERRORS
            ]
            for name, way in ways.items()
        }  # fmt: skip
    titles = {"shift": "boxes shifted by", "scale": "boxes widened or narrowed by"}
    panels = {titles[kind]: found[kind] for kind in found}
    curves(folder / "robustness.png", _ERRORS, panels, "share of the box's side", "mask IoU")
    return {kind: {"error": list(_ERRORS), **rows} for kind, rows in found.items()}
