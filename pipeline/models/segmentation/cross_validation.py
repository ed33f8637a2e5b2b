"""Out-of-fold predictions: each image by a probe that learned from images of other objects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import DataError, Faults
from pipeline.io.images import read_image
from pipeline.models.devices import torch_device
from pipeline.models.segmentation.hypercolumns import Hypercolumns
from pipeline.models.segmentation.pixel_probe import (
    PixelProbe,
    Probabilities,
    Sample,
    draw_sample,
    fit_probe,
)
from pipeline.models.weights.store import Weights
from pipeline.runners import PerProcess, Runner, map_batches
from pipeline.runtime.progress import track
from pipeline.types import Dataset, Detections, ImageRecord

_BATCH = 4  # images that another process takes at once
Judgement = TypeVar("Judgement")
Judge = Callable[[ImageRecord, Detections, Probabilities], Judgement]


@dataclass(frozen=True)
class Processes:
    """Where images are worked on: see `map_batches`."""

    runner: Runner = "local"
    workers: int = 1


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
        device: str,
        faults: Faults,
        seed: int = 0,
        processes: Processes = Processes(),
    ) -> None:
        """dataset: with a mask for each object. weights: of MobileNetV2, or None for random ones.
        device: of each process. faults: takes an image that cannot be read."""
        self._dataset, self._processes, self._seed = dataset, processes, seed
        self._columns = PerProcess(partial(_load_columns, weights, device))
        self._samples: dict[int, Sample] = {}
        embeddings = []
        work = _Features(self._columns, len(dataset.categories), seed)
        for record, features in self._map(work, dataset.records, "compute features"):
            if isinstance(features, DataError):
                faults.add(features)
                continue
            self._samples[record.id] = features.sample
            embeddings.append(features.embedding)
        self.records = tuple(one for one in dataset.records if one.id in self._samples)
        self.embeddings: NDArray[np.float32] = np.array(embeddings, np.float32)

    def predict(
        self,
        fold_of: Mapping[str, int],
        judge: Judge[Judgement],
        done: Collection[int] = (),
    ) -> Iterator[tuple[ImageRecord, Judgement]]:
        """Each image with what `judge` makes of its objects and its out-of-fold probabilities
        (1 + C, H, W), fold by fold.

        fold_of: by group, from 0; at least two folds. judge: picklable where there are several
        processes. done: ids of images that are left out. Raises DataError for an image that cannot
        be read any more.
        """
        waiting = [record for record in self.records if record.id not in done]
        waiting.sort(key=lambda record: fold_of[record.group])
        probes = {fold: self._probe(fold_of, fold) for fold in {fold_of[r.group] for r in waiting}}
        work = _Predictions(self._columns, fold_of, probes, judge)
        return self._map(work, waiting, "predict out of fold")

    def _probe(self, fold_of: Mapping[str, int], fold: int) -> PixelProbe:
        """What learned from all but a fold."""
        learned = [self._samples[one.id] for one in self.records if fold_of[one.group] != fold]
        return fit_probe(learned, self._seed)

    def _map(
        self,
        work: Callable[[Sequence[tuple[ImageRecord, Detections]]], Iterator[Judgement]],
        records: Sequence[ImageRecord],
        title: str,
    ) -> Iterator[tuple[ImageRecord, Judgement]]:
        """Each image with the result of the work on the image and its objects."""
        items = [(record, self._dataset.on(record)) for record in records]
        one = self._processes
        with closing(map_batches(work, items, one.runner, one.workers, _BATCH)) as done:
            yield from zip(records, track(done, title, len(records)), strict=True)


@dataclass(frozen=True)
class _Sampled:
    """embedding: (976,) float32."""

    sample: Sample
    embedding: NDArray[np.float32]


@dataclass(frozen=True)
class _Features:
    """The first work on images, in any process. categories: their number."""

    columns: PerProcess[Hypercolumns]
    categories: int
    seed: int

    def __call__(
        self, items: Sequence[tuple[ImageRecord, Detections]]
    ) -> Iterator[_Sampled | DataError]:
        """The features of each image, or why it cannot be read."""
        for record, objects in items:
            try:
                image = read_image(record.path)
            except DataError as error:
                yield error
                continue
            places = self.columns.get().of(image)
            seed = self.seed + record.id
            sample = draw_sample(places, objects, record.size, self.categories, seed)
            flat = places.reshape(-1, places.shape[2])
            yield _Sampled(sample, torch.cat([flat.mean(dim=0), flat.amax(dim=0)]).numpy())


@dataclass(frozen=True)
class _Predictions(Generic[Judgement]):
    """The second work on images, in any process. probes: by fold."""

    columns: PerProcess[Hypercolumns]
    fold_of: Mapping[str, int]
    probes: Mapping[int, PixelProbe]
    judge: Judge[Judgement]

    def __call__(self, items: Sequence[tuple[ImageRecord, Detections]]) -> Iterator[Judgement]:
        for record, objects in items:
            probe = self.probes[self.fold_of[record.group]]
            probabilities = probe.predict(read_image(record.path), self.columns.get())
            yield self.judge(record, objects, probabilities)


def _load_columns(weights: Weights | None, device: str) -> Hypercolumns:
    """The backbone of one process. Random weights are the same in each."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Hypercolumns(weights, torch_device(device))
