"""A SAM fitted to known objects: tuned, cross-validated, with its views and its calibration, and
written as one folder, which `model.read_sam` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import JsonValue

from pipeline.io.read import sha256_of
from pipeline.io.write import write_json
from pipeline.models.sam.calibration import Calibration
from pipeline.models.sam.cross_validation import (
    ViewSelection,
    cross_validate,
    enough_photos,
    held_out_groups,
    select_views,
)
from pipeline.models.sam.evaluation import Instance
from pipeline.models.sam.folds import fold_cards
from pipeline.models.sam.model import CARD, DELTA, PRIOR, SamModel, read_sam
from pipeline.models.sam.patch_prior import (
    ForegroundBackground,
    PatchPrior,
    fit_patch_prior,
    sample_patches,
)
from pipeline.models.sam.trainer import Delta, TrainingExample, write_delta
from pipeline.models.sam.tuning import SamTuner
from pipeline.models.sam.views import ViewOptions
from pipeline.models.weights.store import WeightsStore


def fit_sam(
    tuner: SamTuner,
    instances: Sequence[Instance],
    folder: Path,
    *,
    fold_count: int,
    patch_prior: bool,
    crop_below: float | None = None,
) -> tuple[SamModel, ViewSelection]:
    """The tuned SAM, as it is read back from `folder`, and how its views were selected.

    instances: one or more, to learn from. folder: what it holds of a stopped fit is not made again.
    patch_prior: try one. fold_count, crop_below: as in `cross_validate`.
    """
    examples = tuner.examples(instances)
    patches: dict[str, ForegroundBackground] = {}
    if patch_prior and enough_photos(instances, fold_count):
        patches = sample_patches(instances, tuner.runtime.device, tuner.options.seed)
    results = cross_validate(tuner, instances, examples, patches, fold_count, folder, crop_below)
    selection = select_views(tuner.views, crop_below, instances, results)
    if not (folder / CARD).is_file():
        _fit_all(tuner, instances, examples, patches, selection, fold_count, folder)
    return read_sam(folder, WeightsStore()), selection


def _fit_all(
    tuner: SamTuner,
    instances: Sequence[Instance],
    examples: Sequence[Sequence[TrainingExample]],
    patches: Mapping[str, ForegroundBackground],
    selection: ViewSelection,
    fold_count: int,
    folder: Path,
) -> None:
    """Train on all objects, and write the model."""
    delta = tuner.fit(examples, "tune SAM")
    seed, device = tuner.options.seed, tuner.runtime.device
    prior = fit_patch_prior(patches, patches, device, seed) if selection.patch_prior else None
    photos = sorted({instance.group for instance in instances})
    about: dict[str, JsonValue] = {
        "masks": len(instances),
        "photos": [*photos],
        "started_from": tuner.start.delta_sha256,
    }
    views, calibration = selection.views, selection.calibration
    groups = held_out_groups(tuner, instances, fold_count)
    write_sam(folder, tuner.published, delta, views, calibration, prior, about, groups)


def write_sam(
    folder: Path,
    model: SamModel,
    delta: Delta,
    views: ViewOptions,
    calibration: Calibration | None,
    prior: PatchPrior | None,
    about: Mapping[str, JsonValue],
    held_out: Sequence[Sequence[str]] = (),
) -> None:
    """Write the delta to `model`, and the card that `read_sam` reads. held_out: groups of photos
    that the SAM of each fold in the folder did not learn from."""
    write_delta(folder / DELTA, delta)
    prior_card = prior.write(folder / PRIOR) if prior else None
    folds = fold_cards(folder, held_out, prior_card)
    card: dict[str, JsonValue] = {
        "kind": "sam",
        "base": {"name": model.base.name, "sha256": model.base.sha256},
        "delta_sha256": sha256_of(folder / DELTA),
        "views": asdict(views),
        "calibration": calibration.to_json() if calibration else None,
        "patch_prior": prior_card.model_dump(mode="json") if prior_card else None,
        "folds": [fold.model_dump(mode="json") for fold in folds],
        "about": dict(about),
    }
    write_json(folder / CARD, card)
