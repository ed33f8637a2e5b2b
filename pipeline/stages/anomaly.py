"""`pipeline anomaly`: a model learns from good images alone, and is tested on all images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from pipeline.config.schema import AnomalyConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.products import read_product, train_and_test
from pipeline.formats.record_masks import read_defect_mask
from pipeline.geometry import masks as mask_geometry
from pipeline.interfaces import AnomalyModel
from pipeline.io.heatmaps import write_heatmap
from pipeline.io.images import read_image, write_png
from pipeline.io.read import RUN_FILE
from pipeline.io.run_record import RunRecord
from pipeline.io.work_log import LOG, WorkLog
from pipeline.io.write import write_json
from pipeline.metrics.anomaly import AnomalyScores
from pipeline.reports.anomaly import CategoryScores, PatchCounts, TestedImages, ThresholdCounts
from pipeline.results import StageResult, from_json
from pipeline.runners import PerProcess, Runner, check_runner, map_batches
from pipeline.runtime.progress import say, track
from pipeline.splits import assign_splits
from pipeline.trust.good_images import GoodImagesFit, cross_validated_thresholds, fitted_model
from pipeline.types import GOOD, Dataset, ImageRecord
from pipeline.visualization.overlays import heat_overlay

if TYPE_CHECKING:
    from pipeline.models.anomaly.thresholds import Thresholds

_SCORES = "scores.json"
_BATCH = 8  # images that another process takes at once


class ImageScore(TypedDict):
    """Row of the work log for a test image."""

    file_name: str
    score: FiniteFloat


_IMAGE_SCORE = TypeAdapter(ImageScore)


@dataclass(frozen=True, kw_only=True)
class AnomalyResult(AnomalyScores, StageResult):
    """What was fitted on how many images, and figures of the test images.

    features, patches: backbone of PatchCore, and the patches it keeps; None for the autoencoders.
    tested_on: images. by_category:
    figures of each category of defects. at_threshold: None without test images. faults: errors of
    images that were left out.
    """

    output: Path
    model: str
    features: str | None = None
    learned_from_good_images: int
    patches: PatchCounts | None = None
    tested_on: int
    by_category: dict[str, CategoryScores] = field(default_factory=dict)
    at_threshold: ThresholdCounts | None = None
    faults: tuple[str, ...] = ()


def anomaly(
    data: Path,
    output: Path,
    config: AnomalyConfig,
    *,
    device: str = "auto",
    keep_going: bool = False,
    overwrite: bool = False,
    runner: Runner = "local",
    workers: int = 1,
) -> AnomalyResult:
    """Fit a model on a product's good images, choose its thresholds on them, and test it.

    Writes the model, its thresholds, heat maps of the test images, pictures and figures. The same
    call goes on with a run that was stopped. One process learns; runner, workers: where images are
    tested, and by how many processes. The bytes are the same. Raises DataError for too few images,
    WeightsError.
    """
    from pipeline.models.devices import seed_all, torch_device

    check_runner(runner, workers)
    faults = Faults(keep_going)
    record = RunRecord("anomaly", config.model_dump(mode="json"), [data, config.split_file])
    dataset = read_product(data, faults, config.group_by, config.good_limit, config.split_file,
                           config.allow_outside)  # fmt: skip
    train, test = _split(dataset, config)
    if not train:
        raise DataError(data, "has no good image to learn from", "fill train/good")
    seed_all(config.seed)
    fit = GoodImagesFit(config, torch_device(device), train, faults)
    with record.resumable_folder(output, overwrite) as folder:
        if finished := record.finished(folder):
            return from_json(AnomalyResult, finished, folder / RUN_FILE)
        thresholds = cross_validated_thresholds(fit, folder)
        model = fitted_model(fit, folder)
        thresholds.save(folder)
        if patches := _patches(model):
            say(f"PatchCore {patches}")
        _note_weights(record, folder)
        models = PerProcess(partial(_load_model, folder, device), own=model)
        scores = _score(_Scoring(models, thresholds, config, folder), test, faults, runner, workers)
        tested = [entry for entry in test if entry.file_name in scores]
        images = TestedImages(tested, scores, folder / "heatmaps", config.mask_threshold)
        result = _result(fit, model, images, thresholds, output, folder)
        record.write(folder, result.to_json())
    return result


def _split(dataset: Dataset, config: AnomalyConfig) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """The good images to train on, and the images to test on."""
    if config.split_file or all(record.split for record in dataset.records):
        train, test = train_and_test(dataset)
        return [record for record in train if record.defect == GOOD], test
    good = [r for r in dataset.records if r.source_split == "train" and r.defect == GOOD]
    test = [r for r in dataset.records if r.source_split == "test"]
    if not any(record.source_split for record in dataset.records):  # a layout without splits
        good = [record for record in dataset.records if record.defect == GOOD]
        test = [record for record in dataset.records if record.defect != GOOD]
    if any(record.defect == GOOD for record in test) or len(good) < 2:
        return good, test
    shares = {"learn": 1 - config.val, "hold": config.val}
    records = assign_splits(dataset.subset(good), shares, config.seed).records
    extra = [record for record in records if record.split == "hold"]
    say(f"test/good is empty: {len(extra)} images of train/good are held out for the test")
    return [record for record in records if record.split == "learn"], [*test, *extra]


def _patches(model: AnomalyModel) -> PatchCounts | None:
    """What PatchCore keeps of the good images; None for other models."""
    from pipeline.models.anomaly.patchcore import PatchCore

    if not isinstance(model, PatchCore) or model.bank is None:
        return None
    if model.patches_seen is None or model.patches_drawn is None:
        return None
    return PatchCounts(model.patches_seen, model.patches_drawn, len(model.bank))


def _note_weights(record: RunRecord, folder: Path) -> None:
    """Note the weights that the card of a model names."""
    from pipeline.models.artifact import CARD
    from pipeline.models.cards import FeaturesCard, read_model_card

    card = read_model_card(folder / CARD)
    if isinstance(card, FeaturesCard) and card.weights_sha256:
        record.used_weights(card.features, card.weights_sha256)


@dataclass(frozen=True)
class _Scoring:
    """The work on test images, in any process. folder: for heat maps and overlays."""

    models: PerProcess[AnomalyModel]
    thresholds: Thresholds
    config: AnomalyConfig
    folder: Path

    def __call__(self, records: Sequence[ImageRecord]) -> Iterator[float | DataError]:
        """The score of each image, or why it cannot be read."""
        model = self.models.get()
        for record in records:
            try:
                image = read_image(record.path)
                mask = read_defect_mask(record, self.config.mask_threshold)
            except DataError as error:
                yield error
                continue
            result = model.score(image)
            write_heatmap(self.folder / "heatmaps", record.file_name, result.heatmap)
            if self.config.overlays:
                truth = None if mask is None else mask_geometry.encode(mask)
                low, high = self.thresholds.pixel_low, 2 * self.thresholds.pixel_high
                drawn = heat_overlay(image, result.heatmap, low, high, truth)
                path = self.folder / "overlays" / Path(record.file_name).with_suffix(".png")
                write_png(path, drawn)
            yield result.score


def _load_model(folder: Path, device: str) -> AnomalyModel:
    """The model of one process."""
    from pipeline.models.anomaly.detector import load_anomaly_model
    from pipeline.models.devices import torch_device

    return load_anomaly_model(folder, torch_device(device))


def _score(
    work: _Scoring, test: Sequence[ImageRecord], faults: Faults, runner: Runner, workers: int
) -> dict[str, float]:
    """The score of each image by file name; kept in a work log, and written."""
    with WorkLog(work.folder / LOG, "images", _IMAGE_SCORE) as log:
        left = [number for number in range(len(test)) if number not in log]
        records = [test[number] for number in left]
        with closing(map_batches(work, records, runner, workers, _BATCH)) as done:
            for number, score in zip(left, track(done, "test", len(left)), strict=True):
                if isinstance(score, DataError):
                    faults.add(score)
                    continue
                log.add(number, ImageScore(file_name=test[number].file_name, score=score))
        scores = {row["file_name"]: row["score"] for row in log.values()}
    write_json(work.folder / _SCORES, scores)
    return scores


def _result(
    fit: GoodImagesFit,
    model: AnomalyModel,
    images: TestedImages,
    thresholds: Thresholds,
    output: Path,
    folder: Path,
) -> AnomalyResult:
    """The result, with the plot of scores in `folder`."""
    config = fit.config
    result = AnomalyResult(
        output=output,
        model=config.model,
        features=config.backbone if config.model == "patchcore" else None,
        learned_from_good_images=len(fit.train),
        patches=_patches(model),
        tested_on=len(images.records),
        faults=tuple(str(error) for error in fit.faults.errors),
    )
    if not images.records:
        return result
    by_category = images.by_category()
    images.plot(folder / "scores.png", thresholds.image, f"score of {config.model}")
    return replace(
        result,
        **vars(images.figures()),
        by_category=by_category,
        at_threshold=images.at_threshold(thresholds.image),
    )
