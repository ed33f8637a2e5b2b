"""A model of good images, and its thresholds from good images that it did not learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from pipeline.config.schema import AnomalyConfig
from pipeline.errors import DataError, Faults
from pipeline.interfaces import AnomalyModel
from pipeline.io.images import Image, read_image
from pipeline.io.manifest import WORK
from pipeline.io.work_log import LOG, WorkLog
from pipeline.runtime.progress import say, track
from pipeline.splits import folds
from pipeline.types import ImageRecord

if TYPE_CHECKING:
    import torch

    from pipeline.models.anomaly.thresholds import GoodImage, Thresholds
    from pipeline.models.features.patches import PatchFeatures

_CHECKPOINT = f"{WORK}/checkpoint.pt"


@dataclass(frozen=True)
class GoodImagesFit:
    """What a model is fitted with: its settings, device and good images."""

    config: AnomalyConfig
    device: torch.device
    train: Sequence[ImageRecord]
    faults: Faults

    def images(self, records: Sequence[ImageRecord], title: str) -> Iterator[Image]:
        """Images as they are read; one that cannot be read is a fault."""
        for record in track(records, title):
            try:
                image = read_image(record.path)
            except DataError as error:
                self.faults.add(error)
                continue
            yield image

    @cached_property
    def _features(self) -> PatchFeatures:
        """PatchCore's features, which all folds and the final model share."""
        from pipeline.models.anomaly.detector import image_features
        from pipeline.models.features.held import HeldFeatures

        config = self.config
        return HeldFeatures(
            image_features(config.backbone, config.image_side, self.device, config.pretrained)
        )

    def new_model(self, folder: Path) -> AnomalyModel:
        """A model that has not learned yet."""
        from pipeline.models.anomaly.autoencoder import Autoencoder
        from pipeline.models.anomaly.patchcore import PatchCore

        config = self.config
        if config.model == "patchcore":
            return PatchCore(self._features, config.coreset_ratio, config.neighbours, config.seed)
        return Autoencoder(
            config.model == "vae",
            error=config.error,
            side=config.picture_side,
            latent=config.latent,
            steps=config.steps,
            seed=config.seed,
            device=self.device,
            checkpoint=folder / _CHECKPOINT,
        )


def cross_validated_thresholds(fit: GoodImagesFit, folder: Path) -> Thresholds:
    """Thresholds from good images, by cross-validation where there are enough groups of them."""
    from pipeline.models.anomaly.thresholds import Thresholds, good_image

    count = min(fit.config.folds, len({record.group for record in fit.train}))
    rows: list[GoodImage] = []
    for fold in range(count) if count >= 2 else ():
        rows += _fold(fit, fold, count, folder)
    if not rows:
        wanted = fit.config.folds
        reason = f"folds is {wanted}" if wanted < 2 else "folds need two groups of good images"
        say(
            f"{reason}: thresholds come from the images that the model learns from, and mark too "
            "many new good ones"
        )
        model = fitted_model(fit, folder)
        rows = [good_image(model.score(image)) for image in fit.images(fit.train, "thresholds")]
    return Thresholds.of(rows, fit.config.max_false_positive_rate)


def _fold(fit: GoodImagesFit, fold: int, count: int, folder: Path) -> list[GoodImage]:
    """Good images of one fold, by a model of the others; read back where an earlier call wrote
    them."""
    from pipeline.models.anomaly.thresholds import GoodImage, good_image

    with WorkLog(folder / LOG, "folds", TypeAdapter(list[GoodImage])) as log:
        if (finished := log.get(fold)) is not None:
            return finished
        fold_of = folds(fit.train, count, fit.config.seed)
        train = [r for r in fit.train if fold_of[r.group] != fold]
        test = [r for r in fit.train if fold_of[r.group] == fold]
        model = fit.new_model(folder)
        title = f"fold {fold + 1} of {count}"
        model.fit(fit.images(train, f"learn, {title}"))
        rows = [good_image(model.score(image)) for image in fit.images(test, title)]
        log.add(fold, rows)
        (folder / _CHECKPOINT).unlink(missing_ok=True)
    return rows


def fitted_model(fit: GoodImagesFit, folder: Path) -> AnomalyModel:
    """The model of all good images; read back where an earlier call wrote it."""
    from pipeline.models.anomaly.detector import load_anomaly_model
    from pipeline.models.artifact import CARD

    if not (folder / CARD).is_file():
        model = fit.new_model(folder)
        model.fit(fit.images(fit.train, "learn from good images"))
        model.save(folder)
        (folder / _CHECKPOINT).unlink(missing_ok=True)
    return load_anomaly_model(folder, fit.device)
