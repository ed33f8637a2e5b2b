"""`pipeline compare`: every model of a run on the same held images, as one question.

Which image is defective, and which pixels are? A detector, SAM's masks, a classifier and models
that saw no label answer it with scores and heat maps; beside each, what labels it cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.formats.coco import read_coco
from pipeline.geometry import masks as mask_geometry
from pipeline.io.images import read_heatmap, read_image
from pipeline.io.read import RUN_FILE, read_json
from pipeline.io.run_record import RunRecord
from pipeline.io.write import write_text
from pipeline.metrics.anomaly import Pair, pixel_figures, ranking
from pipeline.runtime.progress import track
from pipeline.types import GOOD, Dataset, Detections, ImageRecord
from pipeline.visualization.plots import Figure, LabelsAndQuality, labels_against_quality

if TYPE_CHECKING:
    from pipeline.types import Classifier, Detector

Heat = Callable[[ImageRecord], NDArray[np.float32]]
_FAINT = 0.001  # the detector's least score here: all that it suspects ranks


@dataclass(frozen=True)
class Contender:
    """One model's answers: a score for each image by name, and heat maps if it makes any.

    labels: how many marks by hand it learned from; drawn: what these were.
    """

    name: str
    labels: int
    drawn: str
    scores: Mapping[str, float]
    heat: Heat | None = None


@dataclass(frozen=True)
class Pairs:
    """A contender's heat maps with the true masks, made anew each time they are gone through."""

    heat: Heat
    truth: Dataset
    records: Sequence[ImageRecord]

    def __iter__(self) -> Iterator[Pair]:
        for record in self.records:
            masks = self.truth.on(record).masks or ()
            yield self.heat(record), mask_geometry.union(masks, *record.size) if masks else None


def compare(run: Path, output: Path, device: str) -> dict[str, Any]:
    """Compare what the folder of `pipeline run` holds, on its held images.

    Writes figures, a Markdown table and a plot. Raises DataError where there is nothing to compare
    or no held image.
    """
    record = RunRecord("compare", {"run": str(run)}, [run / "data"])
    truth = _truth(run)
    contenders = list(_contenders(run, truth, device))
    if not contenders:
        raise DataError(run, "holds no model to compare", "give the folder of `pipeline run`")
    shared = set.intersection(*(set(entry.scores) for entry in contenders))
    records = [r for r in truth.records if _name(r) in shared]
    bad = [len(truth.on(r)) > 0 for r in records]
    if not records:
        raise DataError(run, "has no image that all models judged", "run it anew")
    rows = {entry.name: _row(entry, truth, records, bad) for entry in track(contenders, "compare")}
    summary = {
        "output": str(output),
        "images": len(records),
        "defective": sum(bad),
        "models": rows,
    }
    with record.whole_folder(output) as folder:
        write_text(folder / "table.md", table(rows))
        plotted = {name: _plotted(row) for name, row in rows.items()}
        labels_against_quality(folder / "compare.png", plotted)
        record.write(folder, summary)
    return summary


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table, a row for each model."""
    head = "| model | labels | image AUROC | image AP | pixel AUROC | AUPRO | pixel AP |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for name, row in rows.items():
        cells = [
            _cell(row["image_auroc"], row["image_auroc_interval"]),
            _cell(row["image_ap"]),
            _cell(row.get("pixel_auroc")),
            _cell(row.get("aupro"), row.get("aupro_interval")),
            _cell(row.get("pixel_ap")),
        ]
        lines.append(f"| {name} | {row['labels']} {row['drawn']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(value: float | None, interval: Sequence[float] | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" ({interval[0]:.3f}-{interval[1]:.3f})" if interval else "")


def _truth(run: Path) -> Dataset:
    folder = run / "data" / "annotations"
    held = next(
        (
            path
            for split in ("test", "val")
            if (path := folder / f"instances_{split}.json").is_file()
        ),
        None,
    )
    if held is None:
        raise DataError(folder, "holds no test or val split", "give the folder of `pipeline run`")
    return read_coco(held, run / "data" / "images")


def _known(run: Path, held: Dataset) -> tuple[int, int]:
    """How many objects and images the models learned from."""
    names = {record.file_name for record in held.records}
    objects = images = 0
    for split in ("train", "val"):
        path = run / "data" / "annotations" / f"instances_{split}.json"
        if path.is_file():
            some = read_coco(path, run / "data" / "images")
            fresh = [r for r in some.records if r.file_name not in names]
            objects += sum(len(some.on(r)) for r in fresh)
            images += len(fresh)
    return objects, images


def _contenders(run: Path, truth: Dataset, device: str) -> Iterator[Contender]:
    from pipeline.models.devices import torch_device
    from pipeline.models.load import load_classifier, load_detector

    objects, images = _known(run, truth)
    if (run / "detector").is_dir():
        found = _searched(load_detector(run / "detector", device, _FAINT), truth)
        scores = {name: _highest(rows) for name, rows in found.items()}
        yield Contender("detector", objects, "boxes", scores, _painted(found, masks=False))
    masks = run / "masks_from_detector" / "instances.json"
    if masks.is_file():
        cut = read_coco(masks, run / "data" / "images")
        by_name = {_name(r): cut.on(r) for r in cut.records}
        scores = {name: _highest(rows) for name, rows in by_name.items()}
        yield Contender(
            "detector, SAM masks", objects, "masks", scores, _painted(by_name, masks=True)
        )
    if (run / "classifier").is_dir():
        classifier = load_classifier(run / "classifier", torch_device(device))
        if GOOD in classifier.categories:
            yield Contender("classifier", images, "image kinds", _judged(classifier, truth))
    for folder in sorted(run.glob("anomaly_*")):
        if (folder / RUN_FILE).is_file():
            name = folder.name.removeprefix("anomaly_").replace("_", " ")
            scores = read_json(folder / "scores.json")
            yield Contender(name, 0, "(good images)", scores, _stored_heat(folder / "heatmaps"))


def _searched(detector: Detector, truth: Dataset) -> dict[str, Detections]:
    return {_name(r): detector.detect(read_image(r.path)) for r in track(truth.records, "detect")}


def _judged(classifier: Classifier, truth: Dataset) -> dict[str, float]:
    """1 less the probability of good."""
    good = classifier.categories.index(GOOD)
    return {
        _name(r): 1 - float(classifier.classify([read_image(r.path)])[0, good])
        for r in track(truth.records, "classify")
    }


def _highest(found: Detections) -> float:
    """An image's score is that of its surest object, 0 without one."""
    if found.scores is None or not len(found):
        return 0.0
    return float(found.scores.max())


def _painted(found: Mapping[str, Detections], masks: bool) -> Heat:
    """Each object's score on the pixels of its mask, or its box; the surest lies on top."""

    def heat(record: ImageRecord) -> NDArray[np.float32]:
        drawn = np.zeros(record.size, np.float32)
        objects = found.get(_name(record), Detections.none())
        scores = np.zeros(len(objects)) if objects.scores is None else objects.scores
        for row in np.argsort(scores, kind="stable"):
            if masks and objects.masks is not None:
                drawn[mask_geometry.decode(objects.masks[row])] = scores[row]
            elif not masks:
                x0, y0, x1, y1 = (max(round(float(value)), 0) for value in objects.boxes[row])
                drawn[y0:y1, x0:x1] = scores[row]
        return drawn

    return heat


def _stored_heat(folder: Path) -> Heat:
    return lambda record: read_heatmap(folder, _name(record), record.size)


def _row(
    entry: Contender, truth: Dataset, records: Sequence[ImageRecord], bad: Sequence[bool]
) -> dict[str, Any]:
    of_images = ranking([entry.scores[_name(r)] for r in records], bad)
    row = {"labels": entry.labels, "drawn": entry.drawn, **of_images.summary()}
    if entry.heat is not None:
        row |= pixel_figures(Pairs(entry.heat, truth, records)).summary()
    return row


def _plotted(row: Mapping[str, Any]) -> LabelsAndQuality:
    def figure(name: str) -> Figure | None:
        if row.get(name) is None:
            return None
        low, high = row[f"{name}_interval"]
        return Figure(row[name], None if low is None else (low, high))

    return LabelsAndQuality(
        labels=row["labels"], image_auroc=figure("image_auroc"), aupro=figure("aupro")
    )


def _name(record: ImageRecord) -> str:
    """The image's name in its product, which convert-masks puts below the split's."""
    return Path(record.file_name).name
