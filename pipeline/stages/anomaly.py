"""`pipeline anomaly`: a model learns good images alone, and is tried on all kinds of defects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from pipeline.config.schema import AnomalyConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.mvtec import read_defect_mask
from pipeline.formats.products import read_product, train_and_test
from pipeline.geometry import masks as mask_geometry
from pipeline.io.images import Image, read_heatmap, read_image, write_heatmap, write_png
from pipeline.io.manifest import WORK
from pipeline.io.read import read_json
from pipeline.io.run_record import RunRecord
from pipeline.io.work_log import LOG, WorkLog
from pipeline.io.write import write_json
from pipeline.metrics.anomaly import Pair, pixel_figures, ranking
from pipeline.runtime.progress import say, track
from pipeline.splits import assign_splits, folds
from pipeline.types import GOOD, AnomalyModel, Dataset, ImageRecord
from pipeline.visualization.overlays import heat_overlay
from pipeline.visualization.plots import score_strips

if TYPE_CHECKING:
    import torch

    from pipeline.models.anomaly.detector import Thresholds

_COMMON = 0.99  # of a good image's pixels: the rest may be what a defect's rim looks like
_SCORES = "scores.json"
_CHECKPOINT = f"{WORK}/checkpoint.pt"


class Normal(TypedDict):
    """What a good image looks like to a model that did not learn from it: its score, and of its
    heat map the highest value, the one that most pixels stay below, and the median."""

    score: FiniteFloat
    highest: FiniteFloat
    common: FiniteFloat
    middle: FiniteFloat


class Scored(TypedDict):
    """Value of a tested image in the work log."""

    file_name: str
    score: FiniteFloat


_NORMAL, _SCORED = TypeAdapter(list[Normal]), TypeAdapter(Scored)


@dataclass(frozen=True)
class Maps:
    """Heat maps of records with their true masks, read anew each time they are gone through."""

    folder: Path
    records: Sequence[ImageRecord]
    threshold: int

    def __iter__(self) -> Iterator[Pair]:
        for record in self.records:
            heatmap = read_heatmap(self.folder, record.file_name, record.size)
            yield heatmap, read_defect_mask(record, self.threshold)


def anomaly(
    data: Path,
    output: Path,
    config: AnomalyConfig,
    device: str,
    keep_going: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Fit a model on a product's good images, say from them what is normal, and test it.

    Writes the model, its limits, heat maps of the tested images, pictures and figures. A call that
    was stopped is taken up by the same call. Raises DataError for too few images, WeightsError.
    """
    from pipeline.models.devices import seed_all, torch_device

    faults = Faults(keep_going)
    settings = config.model_dump(mode="json")
    record = RunRecord("anomaly", settings, [data, config.split_file])
    listed = read_product(data, faults, config.group_by, config.good_limit, config.split_file,
                          config.allow_outside)  # fmt: skip
    learned, held = _parts(listed, config)
    if not learned:
        raise DataError(data, "has no good image to learn from", "fill train/good")
    seed_all(config.seed)
    chosen = torch_device(device)
    with record.resumable_folder(output, overwrite) as folder:
        if done := record.finished(folder):
            return done
        limits = _limits(learned, config, chosen, folder, faults)
        model = _fitted(learned, config, chosen, folder, faults)
        limits.save(folder)
        card = read_json(folder / "card.json")
        if card.get("weights_sha256"):
            record.used_weights(card["features"], card["weights_sha256"])
        scores = _score(model, limits, held, config, folder, faults)
        tested = [entry for entry in held if entry.file_name in scores]
        summary = {
            "output": str(output),
            "model": config.model,
            "features": config.backbone if config.model == "patchcore" else None,
            "learned_from_good_images": len(learned),
            "tested_on": len(tested),
            **_figures(tested, scores, limits, config, folder),
            "faults": [str(error) for error in faults.found],
        }
        record.write(folder, summary)
    return summary


def _parts(listed: Dataset, config: AnomalyConfig) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """Good images to learn from, and images to test on."""
    if config.split_file:
        learned, held = train_and_test(listed)
        return [record for record in learned if record.defect == GOOD], held
    good = [r for r in listed.records if r.source_split == "train" and r.defect == GOOD]
    held = [r for r in listed.records if r.source_split == "test"]
    if any(record.defect == GOOD for record in held) or len(good) < 2:
        return good, held
    splits = {"learn": 1 - config.val, "hold": config.val}
    parted = assign_splits(listed.subset(good), splits, config.seed).records
    extra = [record for record in parted if record.split == "hold"]
    say(f"test/good is empty: {len(extra)} images of train/good are held out for the test")
    return [record for record in parted if record.split == "learn"], [*held, *extra]


def _images(records: Sequence[ImageRecord], faults: Faults, title: str) -> Iterator[Image]:
    for record in track(records, title):
        try:
            image = read_image(record.path)
        except DataError as error:
            faults.add(error)
            continue
        yield image


def _new_model(config: AnomalyConfig, device: torch.device, folder: Path) -> AnomalyModel:
    from pipeline.models.anomaly.detector import build_anomaly_model

    features = {
        "name": config.backbone,
        "side": config.image_side,
        "pretrained": config.pretrained,
    }
    if config.model == "patchcore":
        options: dict[str, Any] = {"share": config.coreset_ratio, "neighbours": config.neighbours}
    else:
        options = {"error": config.error, "side": config.picture_side}
        options |= {
            "latent": config.latent,
            "steps": config.steps,
            "checkpoint": folder / _CHECKPOINT,
        }
    return build_anomaly_model(config.model, device, features, {**options, "seed": config.seed})


def _limits(
    learned: Sequence[ImageRecord],
    config: AnomalyConfig,
    device: torch.device,
    folder: Path,
    faults: Faults,
) -> Thresholds:
    """What good images look like to a model that did not learn from them."""
    from pipeline.models.anomaly.detector import Thresholds

    groups = {record.group for record in learned}
    count = min(config.folds, len(groups))
    rows: list[Normal] = []
    if count >= 2:
        fold_of = folds(learned, count, config.seed)
        with WorkLog(folder / LOG, "folds", _NORMAL) as log:
            for fold in range(count):
                if (kept := log.get(fold)) is None:
                    rest = [r for r in learned if fold_of[r.group] != fold]
                    left = [r for r in learned if fold_of[r.group] == fold]
                    model = _new_model(config, device, folder)
                    title = f"left out {fold + 1} of {count}"
                    model.fit(_images(rest, faults, f"learn, {title}"))
                    kept = list(_normal(model, _images(left, faults, title)))
                    log.add(fold, kept)
                    (folder / _CHECKPOINT).unlink(missing_ok=True)
                rows += kept
    if not rows:
        say("too few good images to leave any out: limits are those of images it has learned from")
        model = _fitted(learned, config, device, folder, faults)
        rows = list(_normal(model, _images(learned, faults, "limits")))
    return Thresholds.of(
        [row["score"] for row in rows],
        [row["highest"] for row in rows],
        [row["common"] for row in rows],
        [row["middle"] for row in rows],
        config.max_false_positive_rate,
    )


def _normal(model: AnomalyModel, images: Iterator[Image]) -> Iterator[Normal]:
    for image in images:
        found = model.score(image)
        yield Normal(
            score=found.score,
            highest=float(found.heatmap.max()),
            common=float(np.quantile(found.heatmap, _COMMON)),
            middle=float(np.median(found.heatmap)),
        )


def _fitted(
    learned: Sequence[ImageRecord],
    config: AnomalyConfig,
    device: torch.device,
    folder: Path,
    faults: Faults,
) -> AnomalyModel:
    """The model of all good images; read back where an earlier call wrote it."""
    from pipeline.models.anomaly.detector import load_anomaly_model
    from pipeline.models.artifact import CARD

    if not (folder / CARD).is_file():
        model = _new_model(config, device, folder)
        model.fit(_images(learned, faults, "learn from good images"))
        model.save(folder)
        (folder / _CHECKPOINT).unlink(missing_ok=True)
    return load_anomaly_model(folder, device)


def _score(
    model: AnomalyModel,
    limits: Thresholds,
    held: Sequence[ImageRecord],
    config: AnomalyConfig,
    folder: Path,
    faults: Faults,
) -> dict[str, float]:
    """The score of each image by file name, with its heat map and picture beside."""
    with WorkLog(folder / LOG, "images", _SCORED) as log:
        for number, record in enumerate(track(held, "test")):
            if number in log:
                continue
            try:
                image = read_image(record.path)
                mask = read_defect_mask(record, config.mask_threshold)
            except DataError as error:
                faults.add(error)
                continue
            found = model.score(image)
            write_heatmap(folder / "heatmaps", record.file_name, found.heatmap)
            if config.overlays:
                truth = None if mask is None else mask_geometry.encode(mask)
                drawn = heat_overlay(image, found.heatmap, limits.edge, 2 * limits.seed, truth)
                write_png(folder / "overlays" / Path(record.file_name).with_suffix(".png"), drawn)
            log.add(number, Scored(file_name=record.file_name, score=found.score))
        scores = {row["file_name"]: row["score"] for row in log.values()}
    write_json(folder / _SCORES, scores)
    return scores


def _figures(
    tested: Sequence[ImageRecord],
    scores: dict[str, float],
    limits: Thresholds,
    config: AnomalyConfig,
    folder: Path,
) -> dict[str, Any]:
    if not tested:
        return {}
    kinds = sorted({record.defect for record in tested} - {GOOD})
    by_kind = {}
    for kind in kinds:
        some = [record for record in tested if record.defect in (GOOD, kind)]
        of_images, of_pixels = _judged(some, scores, config, folder)
        by_kind[kind] = {
            name: {**of_images, **of_pixels}[name]
            for name in ("image_auroc", "pixel_auroc", "aupro")
        }
    rows: dict[str, list[float]] = {}
    for entry in sorted(tested, key=lambda r: (r.defect != GOOD, r.defect)):
        rows.setdefault(entry.defect, []).append(scores[entry.file_name])
    score_strips(folder / "scores.png", rows, limits.score, f"score of {config.model}")
    said = np.array([scores[record.file_name] for record in tested]) >= limits.score
    bad = np.array([record.defect != GOOD for record in tested])
    of_images, of_pixels = _judged(tested, scores, config, folder)
    return {
        **of_images,
        **of_pixels,
        "by_kind": by_kind,
        "at_the_limit": {
            "good_marked": int(said[~bad].sum()),
            "good": int((~bad).sum()),
            "defective_marked": int(said[bad].sum()),
            "defective": int(bad.sum()),
        },
    }


def _judged(
    records: Sequence[ImageRecord],
    scores: dict[str, float],
    config: AnomalyConfig,
    folder: Path,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of images, and of pixels."""
    of_images = ranking([scores[r.file_name] for r in records], [r.defect != GOOD for r in records])
    of_pixels = pixel_figures(Maps(folder / "heatmaps", records, config.mask_threshold))
    return of_images.summary(), of_pixels.summary()
