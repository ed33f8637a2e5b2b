"""A trained segmentation model: the networks of a cross-validation, as one and each for itself.

Each network learned without the photos of one fold. On new images they speak together; on a photo
that some of them learned from, only the one that did not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue, TypeAdapter

from pipeline.errors import DataError, WeightsError
from pipeline.io.read import checked, read_json
from pipeline.models.artifact import CARD, TENSORS, save_artifact
from pipeline.models.backends import Backend, choose_backend
from pipeline.models.cards import SegmenterCard
from pipeline.models.segmentation.defect_map import (
    DefectMap,
    RegionOptions,
    as_detections,
    regions,
)
from pipeline.models.segmentation.inference import inference
from pipeline.models.segmentation.map_cache import MapCache
from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork
from pipeline.models.segmentation.predict import predict_map
from pipeline.models.tensors import as_weights_error, read_tensors
from pipeline.types import Detections, Image

KIND = "segmenter"
_CARD = TypeAdapter(SegmenterCard)


@dataclass(frozen=True)
class Member:
    """One network, and the groups of photos that it did not learn from."""

    network: SegmentationNetwork
    unseen: frozenset[str]


class DefectSegmenter:
    """Finds defects pixel by pixel. A `Detector` whose detections have masks."""

    def __init__(
        self,
        members: Sequence[Member],
        categories: Sequence[str],
        scale: float,
        region_options: RegionOptions,
        confidence: float,
        device: torch.device,
        max_regions: int | None = None,
        backend: Backend = "auto",
        cache_gb: float = 20.0,
    ) -> None:
        """scale: by which images are resized. confidence: regions of a lower mean probability are
        left out. max_regions: of an image, the likeliest; None keeps all. backend: what runs the
        networks. cache_gb: largest size of the cache on disk; 0 keeps no map. Raises ConfigError
        for a backend that the device has not."""
        self.members, self.categories = tuple(members), tuple(categories)
        self.scale, self.region_options, self.confidence = scale, region_options, confidence
        self.max_regions = max_regions
        self._networks = [inference(member.network, device, backend) for member in members]
        about = f"{scale} {device.type} {choose_backend(backend, device)}"
        self._kept = MapCache([member.network for member in self.members], about, cache_gb)
        self._last: tuple[Image, DefectMap] | None = None

    def defect_map(self, image: Image, group: str | None = None) -> DefectMap:
        """The map of an image (H, W, 3) uint8 RGB. group: of a photo that the model learned from;
        then it is of the network that did not."""
        if group is None and self._last is not None and self._last[0] is image:
            return self._last[1]
        own, categories = self._of(group), len(self.categories)
        networks = [self._networks[number] for number in own]
        predict = partial(predict_map, networks, image, self.scale, categories)
        found = self._kept.get(image, own, categories, predict)
        if group is None:
            self._last = image, found
        return found

    def detect(self, image: Image) -> Detections:
        """See `Detector`: the regions with their masks; the score is the mean probability."""
        found = self.defect_map(image)
        kept = [r for r in regions(found, self.region_options) if r.mean >= self.confidence]
        kept.sort(key=lambda region: -region.mean)
        return as_detections(found, kept[: self.max_regions])

    def heatmap(self, image: Image) -> NDArray[np.float32]:
        """See `Detector`: the probability of a defect at each pixel."""
        return self.defect_map(image).heatmap()

    def save(self, folder: Path, card: Mapping[str, JsonValue]) -> None:
        """Write model.safetensors and card.json, to which the entries of `card` are added."""
        state = {
            f"{number}.{key}": value
            for number, member in enumerate(self.members)
            for key, value in member.network.state_dict().items()
        }
        options = self.members[0].network.options
        own: dict[str, JsonValue] = {
            "kind": KIND,
            "encoder": options.encoder,
            "categories": [*self.categories],
            "scale": round(self.scale, 6),
            "threshold": self.region_options.threshold,
            "bridge_gap": self.region_options.bridge_gap,
            "min_area": self.region_options.min_area,
            "best_outline": self.region_options.best_outline,
            "confidence": self.confidence,
            "unseen": [[*sorted(member.unseen)] for member in self.members],
        }
        save_artifact(folder, state, {**own, **card})

    def _of(self, group: str | None) -> list[int]:
        """The numbers of the networks that did not learn from a group; of all for one that none
        knows."""
        known = any(group in member.unseen for member in self.members)
        return [n for n, one in enumerate(self.members) if not known or group in one.unseen]


def load_defect_segmenter(
    folder: Path,
    device: torch.device,
    confidence: float | None = None,
    max_regions: int | None = None,
    backend: Backend = "auto",
    cache_gb: float = 20.0,
) -> DefectSegmenter:
    """The model of a folder of finetune-segmenter. confidence: None takes the model's own.
    max_regions, backend, cache_gb: see `DefectSegmenter`. Raises DataError for another folder,
    WeightsError for a file that was changed."""
    path = folder / CARD
    if not path.is_file():
        raise DataError(folder, "holds no segmenter", "give a folder of finetune-segmenter")
    card = checked(_CARD, read_json(path), path)
    state = read_tensors(folder / TENSORS, card.sha256, CARD)
    if not all(bool(values.isfinite().all()) for values in state.values()):
        raise WeightsError(f"{folder / TENSORS}: holds values that are no numbers; train it again")
    options = NetworkOptions(card.encoder, len(card.categories))
    members = []
    with as_weights_error(folder / TENSORS):
        for number, unseen in enumerate(card.unseen):
            own = {
                key.removeprefix(f"{number}."): value
                for key, value in state.items()
                if key.startswith(f"{number}.")
            }
            network = SegmentationNetwork(options)
            network.load_state_dict(own)
            members.append(Member(network, frozenset(unseen)))
    region_options = RegionOptions(
        card.threshold, card.bridge_gap, card.min_area, card.best_outline
    )
    return DefectSegmenter(
        members,
        card.categories,
        card.scale,
        region_options,
        card.confidence if confidence is None else confidence,
        device,
        max_regions,
        backend,
        cache_gb,
    )


def with_regions(
    model: DefectSegmenter, options: RegionOptions, confidence: float
) -> DefectSegmenter:
    """The same networks, without a copy, with other options of regions."""
    other = copy(model)
    other.region_options, other.confidence = options, confidence
    return other
