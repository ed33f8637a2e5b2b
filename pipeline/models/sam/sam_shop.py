"""What `finetune-sam` works with: a SAM to start from, its looks at objects, and what it learns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config.schema import FinetuneSamConfig
from pipeline.geometry import masks as mask_geometry
from pipeline.runtime.progress import track
from pipeline.types import Segmenter

if TYPE_CHECKING:
    import torch

    from pipeline.models.sam.encoders import ImageEncoder
    from pipeline.models.sam.evaluation import Instance
    from pipeline.models.sam.model import SamModel
    from pipeline.models.sam.patch_prior import ForegroundBackground, PatchPrior
    from pipeline.models.sam.trainer import TrainingExample
    from pipeline.models.sam.views import ViewOptions

_MOST_EXAMPLES = 1200  # pictures in memory, of 0.8 MB each at 512 px
_FEWEST_VIEWS = 4
_FEWEST_STEPS = 200


@dataclass(frozen=True)
class Shop:
    """What every step of the tuning needs. `start` is the published SAM itself, or one that was
    tuned from it; what is learned is always the difference to the published."""

    config: FinetuneSamConfig
    published: SamModel
    start: SamModel
    views: ViewOptions
    device: torch.device

    @property
    def side(self) -> int:
        """Pixels of a close look."""
        from pipeline.models.sam.network import close_side

        return close_side(self.published.base.name, self.views.side)

    def encoder(self) -> ImageEncoder:
        """The published SAM's, for close looks."""
        from pipeline.models.sam.model import kept

        cache = kept(self.config.cache_gb)
        return self.published.encoder(self.side, self.device, self.config.backend, cache)

    def segmenter(self, sam: SamModel | None = None, views: ViewOptions | None = None) -> Segmenter:
        """One of the same engine and cache: the published SAM unless said."""
        return (sam or self.published).segmenter(
            self.device, self.config.backend, self.config.cache_gb, views
        )

    def training_examples(self, known: Sequence[Instance]) -> list[list[TrainingExample]]:
        """Looks at every object, each encoded and kept in the cache."""
        from pipeline.models.sam.evaluation import by_image
        from pipeline.models.sam.trainer import training_examples

        config = self.config
        crops = max(_FEWEST_VIEWS, min(config.crops_per_object, _MOST_EXAMPLES // len(known)))
        encoder = self.encoder()
        generator = np.random.default_rng(config.seed)
        shown: list[list[TrainingExample]] = [[] for _ in known]
        photos = len({target.record.path for target in known})
        for image, rows in track(by_image(known), f"encode {crops} crops of each object", photos):
            for row in rows:
                mask = mask_geometry.decode(known[row].mask)
                box = known[row].box
                made = training_examples(
                    image, mask, box, self.side, config.crop_scales, crops, generator
                )
                shown[row] = list(made)
                if config.tune != "encoder":
                    encoder.encode([example.picture for example in shown[row]])
        return shown

    def fit(
        self, shown: Sequence[Sequence[TrainingExample]], title: str
    ) -> dict[str, torch.Tensor]:
        """What is learned from these objects."""
        from pipeline.models.sam.network import build_encoder
        from pipeline.models.sam.trainer import SamTrainer

        config, base = self.config, self.published
        state = base.network.state_dict()
        adapted = config.tune == "encoder"
        tuner = SamTrainer(
            self.start.network,
            self.encoder(),
            config.tune,
            build_encoder(base.base.name, self.side, state) if adapted else None,
            config.rank,
            config.multimask,
            config.rounds,
            self.device,
        )
        steps = config.steps or max(_FEWEST_STEPS, 2 * len(shown))
        tuner.fit(
            shown, steps, config.batch, config.learning_rate, config.jitter, config.seed, title
        )
        return tuner.delta(base.network)

    def seen(self, known: Sequence[Instance]) -> dict[str, ForegroundBackground]:
        """The patches inside and outside of the objects' masks, by photo. Nothing where no memory
        is wanted, or its backbone cannot be had."""
        from pipeline.models.sam.evaluation import by_image
        from pipeline.models.sam.patch_prior import foreground_background, join, prior_features

        features = prior_features(self.device) if self.config.patch_prior else None
        if features is None:
            return {}
        photos = len({target.record.path for target in known})
        found: dict[str, list[ForegroundBackground]] = {}
        for image, rows in track(by_image(known), "patches in and about masks", photos):
            union = mask_geometry.union([known[row].mask for row in rows], *image.shape[:2])
            seen = foreground_background(features, image, union, photos, self.config.seed)
            found.setdefault(known[rows[0]].group, []).append(seen)
        return {group: join(seen) for group, seen in found.items()}

    def memory(
        self, seen: Mapping[str, ForegroundBackground], groups: Iterable[str]
    ) -> PatchPrior | None:
        """What some groups' patches say of other images; None where they are too few."""
        from pipeline.models.sam.patch_prior import PatchPrior, join, prior_features

        chosen = [seen[group] for group in sorted(groups) if group in seen]
        features = prior_features(self.device) if chosen else None
        return PatchPrior.of(features, join(chosen), self.config.seed) if features else None

    def tuned(self, delta: dict[str, torch.Tensor]) -> SamModel:
        """The SAM with what was learned, of this run alone."""
        from copy import deepcopy

        from pipeline.io.disk_cache import key_of
        from pipeline.models.sam.trainer import add_delta

        network = deepcopy(self.published.network)
        add_delta(network, delta)
        name = key_of(*(delta[key].numpy().tobytes() for key in sorted(delta)))
        adapted = any(key.startswith("image_encoder.") for key in delta)
        return replace(
            self.published,
            load=lambda: network,
            views=self.views,
            delta_sha256=name,
            adapted=adapted,
        )
