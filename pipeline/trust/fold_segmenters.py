"""For each photo, a SAM that did not learn from it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch

from pipeline.errors import ConfigError
from pipeline.interfaces import PromptedSegmenter
from pipeline.io.disk_cache import disk_cache
from pipeline.io.run_record import folder_of
from pipeline.models.backends import Backend
from pipeline.models.sam.folds import FoldSam, read_folds
from pipeline.models.sam.mask_cache import CachedSegmenter
from pipeline.models.sam.model import load_segmenter
from pipeline.models.weights.store import WeightsStore
from pipeline.runtime.progress import say


class FoldSegmenters:
    """The SAM of a name or a folder, and those of its cross-validation."""

    def __init__(self, name: str, device: torch.device, backend: Backend, cache_gb: float) -> None:
        """Raises as `load_segmenter`, and ConfigError for a SAM that was tuned without folds."""
        self.tuned = load_segmenter(name, {}, device, backend, cache_gb)
        folder = folder_of(name)
        folds = read_folds(Path(name), WeightsStore()) if folder else []
        if "tuned" in self.tuned.weights and not folds:
            raise ConfigError(
                f"{name}: keeps no SAM that did not learn from the photos; tune it again with "
                "finetune-sam --folds 3, on at least 10 photos"
            )
        self._folds = [_Fold(fold, device, backend, cache_gb) for fold in folds]

    def fold_of(self, group: str) -> int:
        """The fold whose SAM did not learn from a group; -1 for the tuned SAM itself, where it
        learned from none of its photos."""
        return next((n for n, fold in enumerate(self._folds) if group in fold.fold.groups), -1)

    def of(self, group: str) -> PromptedSegmenter:
        """The segmenter of a group's photos."""
        fold = self.fold_of(group)
        return self.tuned.segmenter if fold < 0 else self._folds[fold].segmenter

    def note_strangers(self, groups: set[str]) -> None:
        """Say so where a tuned SAM learned from none of these groups."""
        if self._folds and not any(fold.fold.groups & groups for fold in self._folds):
            say("the SAM learned from none of these photos: each is segmented by the tuned SAM")


class _Fold:
    """A fold's SAM, loaded at its first use."""

    def __init__(
        self, fold: FoldSam, device: torch.device, backend: Backend, cache_gb: float
    ) -> None:
        self.fold, self._device, self._backend, self._gb = fold, device, backend, cache_gb

    @cached_property
    def segmenter(self) -> PromptedSegmenter:
        segmenter = self.fold.sam.segmenter(self._device, self._backend, self._gb)
        return CachedSegmenter(segmenter, disk_cache(self._gb), lambda: segmenter.key)
