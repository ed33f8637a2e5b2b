"""Tuning one SAM: training examples of known objects, the training itself, and the tuned model."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.io.disk_cache import disk_cache, key_of
from pipeline.models.backends import Backend
from pipeline.models.sam.encoders import ImageEncoder
from pipeline.models.sam.evaluation import Instance, by_image, folds
from pipeline.models.sam.folds import FoldSam
from pipeline.models.sam.model import SamModel
from pipeline.models.sam.network import build_encoder, close_side
from pipeline.models.sam.predictor import SamSegmenter
from pipeline.models.sam.trainer import (
    Delta,
    SamTrainer,
    TrainingExample,
    Tuned,
    add_delta,
    learns_encoder,
    training_examples,
)
from pipeline.models.sam.views import ViewOptions
from pipeline.runners import Runner
from pipeline.runners.training import train_on

_MAX_EXAMPLES = 1200  # crops in memory, of 0.8 MB each at 512 px
_MIN_CROPS = 4
_MIN_STEPS = 200


@dataclass(frozen=True)
class TuningOptions:
    """How a SAM is tuned; each as the field of that name in `FinetuneSamConfig`."""

    tune: Tuned = "decoder"
    rank: int = 4
    multimask: bool = False
    rounds: int = 1
    crops_per_object: int = 16
    crop_scales: tuple[float, float] = (1.4, 1.9)
    steps: int | None = None
    batch: int = 4
    learning_rate: float = 2e-4
    jitter: float = 0.04
    seed: int = 0


@dataclass(frozen=True)
class Runtime:
    """The device, backend and cache of a SAM. cache_gb: largest size of the cache on disk. runner,
    workers: where it learns, see `train_on`."""

    device: torch.device
    backend: Backend = "auto"
    cache_gb: float = 20.0
    runner: Runner = "local"
    workers: int = 1

    def segmenter(self, model: SamModel, views: ViewOptions | None = None) -> SamSegmenter:
        """A segmenter of a model, with its own views unless others are given."""
        return model.segmenter(self.device, self.backend, self.cache_gb, views)


class SamTuner:
    """Tunes copies of one SAM. What is learned is always the difference to the published SAM."""

    def __init__(
        self,
        start: SamModel,
        views: ViewOptions,
        options: TuningOptions,
        runtime: Runtime,
        fold_starts: Sequence[FoldSam] = (),
    ) -> None:
        """`start` is a published SAM, or one whose decoder was tuned before. `views` is how the
        tuned SAM sees objects; the training crops have its `side`. `fold_starts`: of a start that
        was tuned on some of the same photos, what each fold goes on from."""
        self.start, self.published = start, start.as_published()
        self._fold_starts = fold_starts
        self.views, self.options, self.runtime = views, options, runtime
        self.side = close_side(self.published.base.name, views.side)

    def folds(self, instances: Sequence[Instance], count: int) -> NDArray[np.int64]:
        """(N,) fold of each object. A photo that the start of a fold did not learn from is in this
        fold again."""
        groups = {instance.group for instance in instances}
        known = {
            group: fold
            for fold, start in enumerate(self._fold_starts)
            for group in sorted(start.groups & groups)
        }
        return folds(instances, count, self.options.seed, known)

    def of_fold(self, fold: int) -> SamTuner:
        """What tunes the SAM of a fold, from one that did not learn from the fold's photos."""
        if not self._fold_starts:
            return self
        start = self._fold_starts[fold].sam
        return SamTuner(start, self.views, self.options, self.runtime)

    def examples(self, instances: Sequence[Instance]) -> list[list[TrainingExample]]:
        """Crops of every object, each encoded and kept in the cache unless the encoder learns."""
        options = self.options
        count = max(_MIN_CROPS, min(options.crops_per_object, _MAX_EXAMPLES // len(instances)))
        encoder = self._encoder(self.runtime.device)
        generator = np.random.default_rng(options.seed)
        examples: list[list[TrainingExample]] = [[] for _ in instances]
        for image, rows in by_image(instances, f"encode {count} crops of each object"):
            for row in rows:
                mask, box = mask_geometry.decode(instances[row].mask), instances[row].box
                scales = options.crop_scales
                crops = training_examples(image, mask, box, self.side, scales, count, generator)
                examples[row] = list(crops)
                if options.tune != "encoder":
                    encoder.encode([example.picture for example in examples[row]])
        return examples

    def fit(self, examples: Sequence[Sequence[TrainingExample]], title: str) -> Delta:
        """Train on objects, each with its examples; returns the difference to the published SAM."""
        runtime = self.runtime
        work = partial(self._fit, examples, title)
        return train_on(work, runtime.device, runtime.runner, runtime.workers)

    def _fit(
        self, examples: Sequence[Sequence[TrainingExample]], title: str, device: torch.device
    ) -> Delta:
        options, published = self.options, self.published
        encoder_learns = options.tune == "encoder"
        state = published.network.state_dict()
        trainer = SamTrainer(
            self.start.network,
            self._encoder(device),
            options.tune,
            build_encoder(published.base.name, self.side, state) if encoder_learns else None,
            options.rank,
            options.multimask,
            options.rounds,
            device,
        )
        steps = options.steps or max(_MIN_STEPS, 2 * len(examples))
        trainer.fit(
            examples,
            steps,
            options.batch,
            options.learning_rate,
            options.jitter,
            options.seed,
            title,
        )
        return trainer.delta(published.network)

    def tuned(self, delta: Delta) -> SamModel:
        """The published SAM with a difference added, for this process alone."""
        network = deepcopy(self.published.network)
        add_delta(network, delta)
        name = key_of(*(delta[key].numpy().tobytes() for key in sorted(delta)))
        return replace(
            self.published,
            load=lambda: network,
            views=self.views,
            delta_sha256=name,
            encoder_tuned=learns_encoder(delta),
        )

    def _encoder(self, device: torch.device) -> ImageEncoder:
        """The published SAM's image encoder, for crops."""
        cache = disk_cache(self.runtime.cache_gb)
        return self.published.encoder(self.side, device, self.runtime.backend, cache)
