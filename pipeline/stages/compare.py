"""`pipeline compare`: all models of a run on the same test images.

Which image is defective, and which pixels are? The detector, SAM's masks, the classifier and the
anomaly models give scores and heat maps. Each is shown with the number of labels that it needs.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, TypeAdapter

from pipeline.errors import DataError, Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.image_files import leave_out_unreadable
from pipeline.formats.source import SourceLog
from pipeline.geometry import masks as mask_geometry
from pipeline.io.heatmaps import read_heatmap
from pipeline.io.images import read_image
from pipeline.io.read import RUN_FILE, checked, read_json
from pipeline.io.run_record import RunRecord
from pipeline.io.write import write_text
from pipeline.metrics.anomaly import anomaly_scores, pixel_figures, ranking
from pipeline.metrics.pixel_counts import Pair
from pipeline.metrics.rejection import either, rejections
from pipeline.reports.comparison import ModelScores, plotted_figures, table
from pipeline.results import StageResult
from pipeline.runtime.progress import track
from pipeline.types import GOOD, Dataset, Detections, ImageRecord
from pipeline.visualization.plots import labels_against_quality, trade_off

if TYPE_CHECKING:
    from pipeline.interfaces import Classifier, Detector

Heat = Callable[[ImageRecord], NDArray[np.float32]]
_MIN_CONFIDENCE = 0.001  # of the detector, so that faint detections rank images too
_SCORES = TypeAdapter(dict[str, FiniteFloat])


@dataclass(frozen=True)
class ScoredModel:
    """One model's score of each image by name, and its heat maps; None without maps.

    labels: number of labels it learned from; drawn: what a label is.
    """

    name: str
    labels: int
    drawn: str
    scores: Mapping[str, float]
    heat: Heat | None = None


@dataclass(frozen=True)
class Pairs:
    """A model's heat maps with the true masks, made at each iteration."""

    heat: Heat
    truth: Dataset
    records: Sequence[ImageRecord]

    def __iter__(self) -> Iterator[Pair]:
        for record in self.records:
            masks = self.truth.on(record).masks or ()
            yield self.heat(record), mask_geometry.union(masks, *record.size) if masks else None


@dataclass(frozen=True, kw_only=True)
class CompareResult(StageResult):
    """Figures of each model by name, on the same test images. defective: images with a defect.
    faults: a line for each image or object that was left out."""

    output: Path
    images: int
    defective: int
    models: dict[str, ModelScores]
    faults: tuple[str, ...] = ()


def compare(
    run: Path, output: Path, *, device: str = "auto", keep_going: bool = False
) -> CompareResult:
    """Compare the models in a folder of `pipeline run` on its test images.

    Writes figures, a Markdown table and a plot. keep_going: leave out unreadable images and faulty
    objects. Raises DataError where there is no model or no test image.
    """
    record, faults = RunRecord("compare", {"run": str(run)}, [run / "data"]), Faults(keep_going)
    truth = leave_out_unreadable(_truth(run, faults), faults)
    models = list(_models(run, truth, device, faults))
    if not models:
        raise DataError(run, "holds no model to compare", "give the folder of `pipeline run`")
    shared = set.intersection(*(set(model.scores) for model in models))
    records = [r for r in truth.records if _name(r) in shared]
    bad = [len(truth.on(r)) > 0 for r in records]
    if not records:
        raise DataError(run, "has no image that all models scored", "run it again with --overwrite")
    rows = {model.name: _row(model, truth, records, bad) for model in track(models, "compare")}
    result = CompareResult(
        output=output, images=len(records), defective=sum(bad), models=rows, faults=faults.lines
    )
    with record.whole_folder(output) as folder:
        write_text(folder / "table.md", table(rows))
        plotted = {name: plotted_figures(row) for name, row in rows.items()}
        labels_against_quality(folder / "compare.png", plotted)
        _draw_rejections(folder, models, rows, truth, records)
        record.write(folder, result.to_json())
    return result


def _draw_rejections(
    folder: Path,
    models: Sequence[ScoredModel],
    rows: Mapping[str, ModelScores],
    truth: Dataset,
    records: Sequence[ImageRecord],
) -> None:
    """Defects missed against good images rejected: by the detector, the segmenter, the best model
    of good images, and by the detector or the last."""
    defects = np.array([len(truth.on(record)) for record in records])
    by_name = {m.name: np.array([m.scores[_name(r)] for r in records]) for m in models}
    good = [model.name for model in models if not model.labels]
    names = [name for name in ("detector",) if name in by_name]
    names += [max(good, key=lambda name: rows[name].image_auroc or 0.0)] if good else []
    if not names or not defects.any():
        return
    shown = [*names, *(name for name in ("segmenter",) if name in by_name)]
    lines = {name: rejections(by_name[name], defects) for name in shown}
    if len(names) > 1:
        both = either([by_name[name] for name in names], defects)
        lines[" or ".join(names)] = rejections(both, defects)
    across, up = "share of good images rejected", "share of defects missed"
    trade_off(folder / "rejected.png", lines, across, up)


def _truth(run: Path, faults: Faults) -> Dataset:
    folder = run / "data" / "annotations"
    paths = [folder / f"instances_{split}.json" for split in ("test", "val")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise DataError(folder, "holds no test or val split", "give the folder of `pipeline run`")
    return read_coco(path, run / "data" / "images", SourceLog(faults), exact=True)


def _train_counts(run: Path, test: Dataset, faults: Faults) -> tuple[int, int]:
    """Numbers of objects and of images that the models learned from."""
    names = {record.file_name for record in test.records}
    objects = images = 0
    for split in ("train", "val"):
        path = run / "data" / "annotations" / f"instances_{split}.json"
        if path.is_file():
            dataset = read_coco(path, run / "data" / "images", SourceLog(faults), exact=True)
            records = [r for r in dataset.records if r.file_name not in names]
            objects += sum(len(dataset.on(r)) for r in records)
            images += len(records)
    return objects, images


def _models(run: Path, truth: Dataset, device: str, faults: Faults) -> Iterator[ScoredModel]:
    """The models that the run holds, with their scores of the test images."""
    from pipeline.models.devices import torch_device
    from pipeline.models.load import load_classifier, load_detector

    objects, images = _train_counts(run, truth, faults)
    if (run / "detector").is_dir():
        detections = _detect(load_detector(run / "detector", device, _MIN_CONFIDENCE), truth)
        scores = {name: _highest(rows) for name, rows in detections.items()}
        heat = _heat_of(detections, masks=False)
        yield ScoredModel("detector", objects, "boxes", scores, heat)
    if (run / "segmenter").is_dir():
        yield _segmenter(load_detector(run / "segmenter", device), truth, objects)
    for name, step in (("detector, SAM masks", "masks_from_detector"), ("labels", "labels")):
        if (run / step / "instances.json").is_file():
            yield _labels(run, step, name, objects)
    if (run / "classifier").is_dir():
        classifier = load_classifier(run / "classifier", torch_device(device))
        if GOOD in classifier.categories:
            yield ScoredModel(
                "classifier", images, "image categories", _classify(classifier, truth)
            )
    for folder in sorted(run.glob("anomaly_*")):
        if (folder / RUN_FILE).is_file():
            name = folder.name.removeprefix("anomaly_").replace("_", " ")
            path = folder / "scores.json"
            scores = checked(_SCORES, read_json(path), path)
            yield ScoredModel(name, 0, "(good images)", scores, _stored_heat(folder / "heatmaps"))


def _segmenter(model: Detector, truth: Dataset, objects: int) -> ScoredModel:
    """A segmenter; the score of an image is the highest probability of a defect in it.

    The maps are kept packed, in steps of 1/255: they are read several times, and are nearly all 0.
    """
    scores: dict[str, float] = {}
    packed: dict[str, bytes] = {}
    for record in track(truth.records, "segment"):
        own = model.heatmap(read_image(record.path))
        whole = np.zeros(record.size, np.float32) if own is None else own
        scores[_name(record)] = float(whole.max())
        packed[_name(record)] = zlib.compress(np.rint(whole * 255).astype(np.uint8).tobytes(), 1)

    def heat(record: ImageRecord) -> NDArray[np.float32]:
        values = np.frombuffer(zlib.decompress(packed[_name(record)]), np.uint8)
        return np.asarray(values.reshape(record.size), np.float32) / np.float32(255)

    return ScoredModel("segmenter", objects, "masks", scores, heat)


def _labels(run: Path, folder: str, name: str, objects: int) -> ScoredModel:
    """The labels in a folder of the run."""
    dataset = read_coco(run / folder / "instances.json", run / "data" / "images", exact=True)
    by_name = {_name(r): dataset.on(r) for r in dataset.records}
    scores = {own: _highest(rows) for own, rows in by_name.items()}
    return ScoredModel(name, objects, "masks", scores, _heat_of(by_name, masks=True))


def _detect(detector: Detector, truth: Dataset) -> dict[str, Detections]:
    return {_name(r): detector.detect(read_image(r.path)) for r in track(truth.records, "detect")}


def _classify(classifier: Classifier, truth: Dataset) -> dict[str, float]:
    """Scores of images: 1 minus the probability of good."""
    good = classifier.categories.index(GOOD)
    return {
        _name(r): 1 - float(classifier.classify([read_image(r.path)])[0, good])
        for r in track(truth.records, "classify")
    }


def _highest(detections: Detections) -> float:
    """Score of an image: the highest of its objects, 0 without any."""
    if detections.scores is None or not len(detections):
        return 0.0
    return float(detections.scores.max())


def _heat_of(detections: Mapping[str, Detections], masks: bool) -> Heat:
    """Heat maps with each object's score on the pixels of its mask, or of its box; the highest
    score counts."""

    def heat(record: ImageRecord) -> NDArray[np.float32]:
        drawn = np.zeros(record.size, np.float32)
        objects = detections.get(_name(record), Detections.none())
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
    model: ScoredModel, truth: Dataset, records: Sequence[ImageRecord], bad: Sequence[bool]
) -> ModelScores:
    images = ranking([model.scores[_name(r)] for r in records], bad)
    pixels = None if model.heat is None else pixel_figures(Pairs(model.heat, truth, records))
    scores = anomaly_scores(images, pixels)
    return ModelScores(labels=model.labels, drawn=model.drawn, **vars(scores))


def _name(record: ImageRecord) -> str:
    """The image's name in its product; convert-masks puts it in a folder of its split."""
    return Path(record.file_name).name
