"""`pipeline evaluate`: predictions against the truth, beside what a box or GrabCut would give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.schema import EvaluateConfig
from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco import read_coco
from pipeline.formats.image_files import NamedFolders
from pipeline.geometry import masks as mask_geometry
from pipeline.io.images import read_image, write_png
from pipeline.io.names import safe_component
from pipeline.io.run_record import RunRecord
from pipeline.metrics.detection import average_precision
from pipeline.metrics.intervals import bootstrap_mean, rank_correlation
from pipeline.metrics.masks import agreement, match, mean_by, size_bin
from pipeline.runtime.progress import track
from pipeline.types import Dataset, Detections, ImageRecord, Rle, Segmenter
from pipeline.visualization.overlays import close_up
from pipeline.visualization.plots import grouped_bars

_NO_FIGURES = {"annotation_id", "prompt_id", "failed"}


@dataclass(frozen=True)
class Pair:
    """A predicted object (row `found`) and the true one (row `true`) on the same image."""

    record: ImageRecord
    found: int
    true: int


def evaluate(
    truth_file: Path,
    predictions_file: Path,
    config: EvaluateConfig,
    images: Path | None = None,
    output: Path | None = None,
) -> dict[str, Any]:
    """Box and mask AP, and mask IoU of the matched objects; see README for each figure.

    `images` is needed for GrabCut and for pictures; without it neither is made. With `output`,
    figures, a plot and a gallery are written there.
    """
    truth = read_coco(truth_file, images)
    if config.split:
        chosen = [record for record in truth.records if record.split == config.split]
        if not chosen:
            splits = ", ".join(sorted({record.split or "none" for record in truth.records})[:10])
            raise ConfigError(
                f"split {config.split}: {truth_file} has no such image; it has {splits}"
            )
        truth = truth.subset(chosen)
    if images:
        folders = NamedFolders([images], config.allow_outside)
        for entry in truth.records:
            folders.refuse_outside(entry.path)
    truth, found = _aligned(truth, read_coco(predictions_file, images))
    pairs, missed, extra = _pairs(truth, found)
    summary: dict[str, Any] = {
        "images": len(truth.records),
        "objects": sum(len(truth.on(record)) for record in truth.records),
        "matched": len(pairs),
        "missed": missed,
        "extra": extra,
        "average_precision": _precision(truth, found),
    }
    masked = all(
        objects.masks is not None for objects in (*truth.objects.values(), *found.values())
    )
    scored = _mask_figures(truth, found, pairs, missed) if masked else None
    if scored:
        summary |= scored[0] | _quality(found, pairs, scored[1])
        if images:
            summary["baselines"] = _baselines(truth, found, pairs, config)
    if output:
        sources = (truth_file, predictions_file)
        record = RunRecord("evaluate", config.model_dump(mode="json"), sources)
        with record.whole_folder(output) as folder:
            if scored:
                _plot(folder, summary)
                if images:
                    _gallery(folder / "gallery", truth, found, pairs, scored[1])
            record.write(folder, summary)
    return summary


def _aligned(truth: Dataset, predictions: Dataset) -> tuple[Dataset, dict[int, Detections]]:
    """Predictions under the truth's image ids and labels; categories merge where one side has one.

    Images are the same when their names are, or the last parts of their names where those tell
    the truth's images apart.
    """
    shared = Counter(Path(record.file_name).name for record in truth.records)
    names = {Path(r.file_name).name: r.id for r in truth.records}
    names = {name: key for name, key in names.items() if shared[name] == 1}
    names |= {record.file_name: record.id for record in truth.records}
    if predictions.categories != truth.categories:
        if 1 not in (len(predictions.categories), len(truth.categories)):
            raise ConfigError(
                f"categories differ: truth has {', '.join(truth.categories)}; "
                f"predictions have {', '.join(predictions.categories)}"
            )
        merged = {key: _unlabelled(objects) for key, objects in truth.objects.items()}
        truth = Dataset(("defect",), truth.records, merged)
    found: dict[int, Detections] = {}
    for record in predictions.records:
        key = names.get(record.file_name, names.get(Path(record.file_name).name))
        if key is not None:
            objects = predictions.on(record)
            found[key] = _unlabelled(objects) if len(truth.categories) == 1 else objects
    if not found:
        raise DataError(
            Path(predictions.records[0].file_name if predictions.records else "predictions"),
            "no image of the predictions is in the truth",
            "evaluate predictions on the images that the truth lists",
        )
    return truth, found


def _unlabelled(objects: Detections) -> Detections:
    return replace(objects, labels=np.zeros_like(objects.labels))


def _pairs(truth: Dataset, found: Mapping[int, Detections]) -> tuple[list[Pair], int, int]:
    """Matched objects by box, whatever their category; how many were missed and how many extra."""
    pairs: list[Pair] = []
    missed = extra = 0
    for record in truth.records:
        true, said = truth.on(record), found.get(record.id, Detections.none())
        matched = match(said.boxes, true.boxes)
        pairs += [Pair(record, row, column) for row, column in matched]
        missed += len(true) - len(matched)
        extra += len(said) - len(matched)
    return pairs, missed, extra


def _precision(truth: Dataset, found: Mapping[int, Detections]) -> dict[str, Any]:
    boxes = average_precision(truth, found, "bbox")
    result = {"box_ap": _rounded(boxes.ap), "box_ap50": _rounded(boxes.ap50)}
    if all(objects.masks is not None for objects in found.values()):
        masks = average_precision(truth, found, "segm")
        result |= {"mask_ap": _rounded(masks.ap), "mask_ap50": _rounded(masks.ap50)}
    return result


def _masks_of(
    truth: Dataset, found: Mapping[int, Detections], pairs: list[Pair]
) -> tuple[list[Rle], list[Rle]]:
    said = [(found[pair.record.id].masks or ())[pair.found] for pair in pairs]
    true = [(truth.on(pair.record).masks or ())[pair.true] for pair in pairs]
    return said, true


def _mask_figures(
    truth: Dataset, found: Mapping[int, Detections], pairs: list[Pair], missed: int
) -> tuple[dict[str, Any], list[float]]:
    said, true = _masks_of(truth, found, pairs)
    agreed = agreement(said, true)
    ious = [float(value) for value in agreed.iou]
    categories = [truth.categories[truth.on(p.record).labels[p.true]] for p in pairs]
    bins = [size_bin(mask_geometry.area(rle)) for rle in true]
    low, high = bootstrap_mean(ious)
    figures = {
        "mask_iou": _rounded(np.mean(ious) if ious else float("nan")),
        "mask_iou_interval": [_rounded(low), _rounded(high)],
        "mask_iou_missed_as_0": _rounded(sum(ious) / max(len(ious) + missed, 1)),
        "boundary_iou": _rounded(agreed.boundary_iou.mean() if ious else float("nan")),
        "mask_iou_by_category": _table(mean_by(categories, ious)),
        "mask_iou_by_size": _table(mean_by(bins, ious)),
    }
    return figures, ious


def _quality(
    found: Mapping[int, Detections], pairs: list[Pair], ious: list[float]
) -> dict[str, Any]:
    """How each figure of quality that all predictions carry ranks the matched masks."""
    columns = [set(found[pair.record.id].quality) for pair in pairs]
    names = (set.intersection(*columns) if columns else set()) - _NO_FIGURES
    ranks = {}
    for name in sorted(names):
        values = [found[pair.record.id].quality[name][pair.found] for pair in pairs]
        if np.ndim(values) == 1 and not np.isnan(rank_correlation(values, ious)):
            ranks[name] = round(rank_correlation(values, ious), 4)
    return {"rank_correlation_with_iou": ranks} if ranks else {}


def _baselines(
    truth: Dataset, found: Mapping[int, Detections], pairs: list[Pair], config: EvaluateConfig
) -> dict[str, Any]:
    """Mean mask IoU on the same boxes without SAM."""
    from pipeline.models.baselines import BoxFillSegmenter, GrabCutSegmenter

    chosen: dict[str, Segmenter] = {"box_fill": BoxFillSegmenter()}
    if config.grabcut:
        chosen["grabcut"] = GrabCutSegmenter()
    ious: dict[str, list[float]] = {name: [] for name in chosen}
    by_image: dict[int, list[Pair]] = {}
    for pair in pairs:
        by_image.setdefault(pair.record.id, []).append(pair)
    for group in track(list(by_image.values()), "baselines"):
        image = read_image(group[0].record.path)
        boxes = found[group[0].record.id].boxes[[pair.found for pair in group]]
        _, true = _masks_of(truth, found, group)
        for name, segmenter in chosen.items():
            ious[name] += agreement(segmenter.segment(image, boxes).masks, true).iou.tolist()
    categories = [
        truth.categories[truth.on(p.record).labels[p.true]]
        for group in by_image.values()
        for p in group
    ]
    return {
        name: {
            "mask_iou": _rounded(np.mean(values) if values else float("nan")),
            "by_category": _table(mean_by(categories, values)),
        }
        for name, values in ious.items()
    }


def _plot(folder: Path, summary: Mapping[str, Any]) -> None:
    def means(table: Mapping[str, Any]) -> dict[str, float]:
        return {name: row["mean"] for name, row in table.items()}

    series = {"SAM": means(summary["mask_iou_by_category"])}
    for name, figures in summary.get("baselines", {}).items():
        series[name.replace("_", " ")] = means(figures["by_category"])
    grouped_bars(folder / "mask_iou.png", "mask IoU on the same boxes", series)


def _gallery(
    folder: Path,
    truth: Dataset,
    found: Mapping[int, Detections],
    pairs: list[Pair],
    ious: list[float],
    count: int = 6,
) -> None:
    """Close-ups of the best, the typical and the worst masks, each file named by its IoU."""
    order = np.argsort(ious, kind="stable")
    middle = max(0, len(order) // 2 - count // 2)
    for name, rows in (
        ("worst", order[:count]),
        ("typical", order[middle : middle + count]),
        ("best", order[::-1][:count]),
    ):
        for rank, row in enumerate(rows):
            pair = pairs[row]
            said, true = _masks_of(truth, found, [pair])
            box = truth.on(pair.record).boxes[pair.true]
            picture = close_up(read_image(pair.record.path), said[0], true[0], box)
            category = truth.categories[truth.on(pair.record).labels[pair.true]]
            file_name = safe_component(f"{name}_{rank}_{ious[row]:.2f}_{category}", ".png")
            write_png(folder / file_name, picture)


def _table(rows: Mapping[str, tuple[float, int]]) -> dict[str, dict[str, float | int]]:
    return {key: {"mean": round(mean, 4), "count": count} for key, (mean, count) in rows.items()}


def _rounded(value: Any) -> float | None:
    number = float(value)
    return None if np.isnan(number) else round(number, 4)
