"""Out-of-fold predictions: each image by a probe that learned from images of other objects."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import DataError, Faults
from pipeline.io.images import read_image
from pipeline.models.segmentation.hypercolumns import Hypercolumns
from pipeline.models.segmentation.pixel_probe import (
    Probabilities,
    Sample,
    draw_sample,
    fit_probe,
)
from pipeline.models.weights.store import Weights
from pipeline.runtime.progress import track
from pipeline.types import Dataset, ImageRecord


class OutOfFold:
    """The features of a dataset's images, and predictions from them.

    records: the images that could be read. embeddings: (N, 976) float32, the mean and the greatest
    value of each feature over each of them. Memory grows by 0.9 MB an image at most, not with its
    pixels.
    """

    def __init__(
        self,
        dataset: Dataset,
        weights: Weights | None,
        device: torch.device,
        faults: Faults,
        seed: int = 0,
    ) -> None:
        """dataset: with a mask for each object. weights: of MobileNetV2, or None for random ones.
        faults: takes an image that cannot be read."""
        self._columns, self._seed = Hypercolumns(weights, device), seed
        self._samples: dict[int, Sample] = {}
        embeddings = []
        for record in track(dataset.records, "compute features"):
            try:
                places = self._columns.of(read_image(record.path))
            except DataError as error:
                faults.add(error)
                continue
            objects, count = dataset.on(record), len(dataset.categories)
            sample = draw_sample(places, objects, record.size, count, seed + record.id)
            self._samples[record.id] = sample
            flat = places.reshape(-1, places.shape[2])
            embeddings.append(torch.cat([flat.mean(dim=0), flat.amax(dim=0)]).numpy())
        self.records = tuple(one for one in dataset.records if one.id in self._samples)
        self.embeddings: NDArray[np.float32] = np.array(embeddings, np.float32)

    def predict(
        self, fold_of: Mapping[str, int], done: Collection[int] = ()
    ) -> Iterator[tuple[ImageRecord, Probabilities]]:
        """Each image with its out-of-fold probabilities (1 + C, H, W), fold by fold.

        fold_of: by group, from 0; at least two folds. done: ids of images that are left out.
        """
        waiting = [record for record in self.records if record.id not in done]
        bar = iter(track(waiting, "predict out of fold"))
        for fold in sorted({fold_of[record.group] for record in waiting}):
            learned = [self._samples[one.id] for one in self.records if fold_of[one.group] != fold]
            probe = fit_probe(learned, self._columns, self._seed)
            for record in waiting:
                if fold_of[record.group] == fold:
                    next(bar)
                    yield record, probe.predict(read_image(record.path))
        next(bar, None)
