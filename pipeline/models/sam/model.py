"""A SAM by name, or one that finetune-sam tuned, as a segmenter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import DataError, WeightsError
from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.interfaces import PromptedSegmenter
from pipeline.io.cache_root import cache_root
from pipeline.io.disk_cache import DiskCache, disk_cache
from pipeline.io.read import checked, read_json
from pipeline.models.backends import Backend, choose_backend
from pipeline.models.cards import SAM_CARD
from pipeline.models.sam.calibration import Calibration
from pipeline.models.sam.decoders import (
    DeferredDecoder,
    OpenVinoDecoder,
    PromptDecoder,
    TorchDecoder,
    cells_on,
)
from pipeline.models.sam.encoders import (
    CachedEncoder,
    DeferredEncoder,
    ImageEncoder,
    OpenVinoEncoder,
    TorchEncoder,
)
from pipeline.models.sam.mask_cache import CachedSegmenter
from pipeline.models.sam.network import (
    SIDE,
    build_encoder,
    close_side,
    load_network,
    refuse_other_weights,
)
from pipeline.models.sam.old_card import OLD_CARD, OLD_PRIOR, read_old_card
from pipeline.models.sam.patch_prior import PatchPrior, read_patch_prior
from pipeline.models.sam.predictor import SamSegmenter
from pipeline.models.sam.sam2 import SAM2_NAMES, Sam2Segmenter, load_sam2
from pipeline.models.sam.trainer import Delta, add_delta, learns_encoder
from pipeline.models.sam.views import ViewOptions
from pipeline.models.tensors import as_weights_error, read_tensors
from pipeline.models.weights.store import Weights, WeightsStore
from pipeline.runners import PerProcess
from pipeline.types import Image, Masks

CARD, DELTA, PRIOR = "card.json", "delta.safetensors", "patch_prior.safetensors"
_GIGABYTE = 1 << 30


@dataclass
class SamModel:
    """A network, where its weights come from, and how it views objects best.

    base: the published weights. load: gives the network, the same at every call; it is not called
    while the cache has every mask. patch_prior: of the training masks, if out-of-fold masks gained
    by it. delta_sha256: of the tuned weights, "" for a published SAM. encoder_tuned: whether the
    image encoder was tuned too.
    """

    base: Weights
    load: Callable[[], Any]
    views: ViewOptions = field(default_factory=ViewOptions)
    calibration: Calibration | None = None
    patch_prior: PatchPrior | None = None
    delta_sha256: str = ""
    encoder_tuned: bool = False

    @property
    def network(self) -> Any:
        """segment-anything's `Sam`, loaded at its first use."""
        return self.load()

    @property
    def name(self) -> str:
        """The base's name, and whether it was tuned."""
        return f"{self.base.name}, tuned" if self.delta_sha256 else self.base.name

    def as_published(self) -> SamModel:
        """The published SAM below a tuned one."""
        return _published(self.base) if self.delta_sha256 else self

    def encoder(
        self, side: int, device: torch.device, backend: Backend, cache: DiskCache
    ) -> ImageEncoder:
        """The image encoder for pictures of `side` pixels, exported or loaded at its first use."""
        key = self.base.sha256 + (self.delta_sha256 if self.encoder_tuned else "")
        resolved = choose_backend(backend, device)

        def network() -> torch.nn.Module:
            return build_encoder(self.base.name, side, self.network.state_dict())

        def make() -> ImageEncoder:
            return TorchEncoder(network(), key, side, device)

        if resolved == "openvino":
            folder = cache_root() / "graphs"
            return CachedEncoder(OpenVinoEncoder(network, key, side, folder), cache)
        return CachedEncoder(
            DeferredEncoder(f"{key} {side} torch {device.type}", side, make), cache
        )

    def segmenter(
        self,
        device: torch.device,
        backend: Backend = "auto",
        cache_gb: float = 20.0,
        views: ViewOptions | None = None,
    ) -> SamSegmenter:
        """A segmenter with the views of the model's card, or with `views`."""
        cache = disk_cache(cache_gb)
        options = views or self.views
        weights, by = f"{self.base.sha256} {self.delta_sha256}", choose_backend(backend, device)

        def make() -> PromptDecoder:
            return TorchDecoder(self.network, weights, device)

        return SamSegmenter(
            OpenVinoDecoder(self.load, weights, cache)
            if by == "openvino"
            else DeferredDecoder(f"{weights} torch", cells_on(device), make),
            self.encoder(SIDE, device, backend, cache),
            self.encoder(close_side(self.base.name, options.side), device, backend, cache),
            options,
            self.patch_prior.on(device) if self.patch_prior else None,
        )


@dataclass(frozen=True)
class CalibratedSegmenter:
    """A segmenter with its calibration.

    name: of the SAM. weights: the sha256 of each file that it is made of, by name.
    """

    segmenter: PromptedSegmenter
    calibration: Calibration | None
    name: str
    weights: dict[str, str]

    def segment(
        self,
        image: Image,
        boxes: Boxes | Sequence[Sequence[float]],
        categories: Sequence[str] = (),
        heatmap: NDArray[np.float32] | None = None,
    ) -> Masks:
        """One mask for each box, in order.

        image: (H, W, 3) uint8 RGB. boxes: (N, 4) xyxy pixels. categories: of each box, for the
        expected IoU; none if they are unknown. heatmap: (H, W); its peak inside a box is a point
        prompt. The masks have the columns of `calibration.measures`, and `expected_iou` if the SAM
        is calibrated.
        """
        prompts = as_boxes(boxes)
        masks = self.segmenter.segment(image, prompts, heatmap)
        if self.calibration is None:
            return masks
        return self.calibration.add_expected_iou(masks, categories or [""] * len(prompts))


def load_sam(name: str, store: WeightsStore | None = None) -> SamModel:
    """A SAM by the name of its weights, or by the folder that finetune-sam wrote.

    Raises WeightsError for weights that cannot be downloaded or are not those that were tuned,
    DataError for a folder without a SAM.
    """
    weights = store or WeightsStore()
    folder = Path(name)
    if not folder.is_dir():
        return _published(weights.get(name))
    if not (folder / CARD).exists() and not _is_old(folder):
        raise DataError(folder, f"holds no {CARD}", "give the folder that finetune-sam wrote")
    return read_sam(folder, weights)


def _published(base: Weights) -> SamModel:
    refuse_other_weights(base)
    return SamModel(base, PerProcess(partial(load_network, base)).get)


def load_segmenter(
    name: str,
    views: Mapping[str, Any],
    device: torch.device,
    backend: Backend = "auto",
    cache_gb: float = 20.0,
    store: WeightsStore | None = None,
) -> CalibratedSegmenter:
    """A segmenter by the name of SAM's or SAM 2's weights, or by the folder of finetune-sam.

    views: fields of `ViewOptions` that differ from the model's own. The calibration belongs to
    those, and is left out with others. Raises as `load_sam`.
    """
    if name in SAM2_NAMES:
        weights = (store or WeightsStore()).get(name)
        two = Sam2Segmenter(load_sam2(weights), ViewOptions(**views), device)
        return CalibratedSegmenter(two, None, weights.name, {weights.name: weights.sha256})
    sam = load_sam(name, store)
    used = {sam.base.name: sam.base.sha256}
    if sam.delta_sha256:
        used["tuned"] = sam.delta_sha256
    if sam.patch_prior:
        backbone, sha256 = sam.patch_prior.backbone
        used[backbone] = sha256
    options = replace(sam.views, **views)
    segmenter = sam.segmenter(device, backend, cache_gb, options)
    cached = CachedSegmenter(segmenter, disk_cache(cache_gb), lambda: segmenter.key)
    return CalibratedSegmenter(
        cached, sam.calibration if options == sam.views else None, sam.name, used
    )


def _is_old(folder: Path) -> bool:
    """Whether version 0.7 wrote a folder."""
    return (folder / OLD_CARD).exists() and not (folder / CARD).exists()


def read_sam(folder: Path, store: WeightsStore) -> SamModel:
    """The SAM of a finetune-sam folder, also of version 0.7: its base with the delta added."""
    if _is_old(folder):
        card, card_file, prior_file = read_old_card(folder), OLD_CARD, OLD_PRIOR
    else:
        card = checked(SAM_CARD, read_json(folder / CARD), folder / CARD)
        card_file, prior_file = CARD, PRIOR
    base = store.fetch(card.base.name)
    if base.sha256 != card.base.sha256:
        wanted = card.base.sha256[:16]
        raise WeightsError(f"{folder}: was tuned on {wanted}..., not {base.sha256[:16]}...")
    refuse_other_weights(base)
    delta = read_tensors(folder / DELTA, card.delta_sha256, card_file)
    load = network_with(base, folder / DELTA, delta)
    calibration = Calibration.from_card(card.calibration) if card.calibration else None
    prior = None
    if card.patch_prior:
        prior = read_patch_prior(folder / prior_file, card.patch_prior, store)
    views = ViewOptions(**{name: getattr(card.views, name) for name in vars(ViewOptions())})
    tuned = learns_encoder(delta)
    return SamModel(base, load, views, calibration, prior, card.delta_sha256, tuned)


def network_with(base: Weights, path: Path, delta: Delta) -> Callable[[], Any]:
    """Loads the base's network, at the first call, with the delta of a file added."""
    return PerProcess(partial(_load_with, base, path, delta)).get


def _load_with(base: Weights, path: Path, delta: Delta) -> Any:
    network = load_network(base)
    with as_weights_error(path):
        add_delta(network, delta)
    return network
