"""A SAM by name, or one that finetune-sam tuned, ready to cut masks out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache as once
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import DataError, WeightsError
from pipeline.geometry.boxes import Boxes
from pipeline.io.cache_root import cache_root
from pipeline.io.disk_cache import DiskCache
from pipeline.io.read import checked, read_json, sha256_of
from pipeline.io.write import write_json
from pipeline.models.cards import SAM as SAM_CARD
from pipeline.models.cards import fitting, read_tensors
from pipeline.models.sam.calibration import Calibration
from pipeline.models.sam.decoders import (
    Answer,
    OpenVinoDecoder,
    PromptDecoder,
    TorchDecoder,
    cells_on,
)
from pipeline.models.sam.embedding_cache import Embedding
from pipeline.models.sam.encoders import (
    Backend,
    CachedEncoder,
    ImageEncoder,
    OpenVinoEncoder,
    TorchEncoder,
    choose_backend,
)
from pipeline.models.sam.mask_cache import CachedSegmenter
from pipeline.models.sam.network import (
    SIDE,
    Prompts,
    build_encoder,
    close_side,
    load_network,
    refuse_other_weights,
)
from pipeline.models.sam.patch_prior import PatchPrior, read_patch_prior
from pipeline.models.sam.predictor import SamSegmenter
from pipeline.models.sam.sam2 import SAM2_NAMES, Sam2Segmenter, load_sam2
from pipeline.models.sam.trainer import add_delta, write_delta
from pipeline.models.sam.views import ViewOptions
from pipeline.models.weights.store import Weights, WeightsStore
from pipeline.types import Image, Masks, PromptedSegmenter

CARD, DELTA, MEMORY = "sam.json", "delta.safetensors", "memory.safetensors"
_GIGABYTE = 1 << 30


@dataclass
class SamModel:
    """A network, where its weights came from, and how it was found best to look.

    base: the named weights. load: gives the network, the same at every call; whoever is answered
    from the cache never needs it. memory: what the masks that it learned from say of other images,
    where that was found to help. delta_sha256: of what was learned, "" for a SAM as published.
    """

    base: Weights
    load: Callable[[], Any]
    views: ViewOptions = field(default_factory=ViewOptions)
    calibration: Calibration | None = None
    memory: PatchPrior | None = None
    delta_sha256: str = ""
    adapted: bool = False

    @property
    def network(self) -> Any:
        """segment-anything's `Sam`, loaded when it is first asked for."""
        return self.load()

    @property
    def name(self) -> str:
        """The base's name, and whether it was tuned."""
        return f"{self.base.name}, tuned" if self.delta_sha256 else self.base.name

    def as_published(self) -> SamModel:
        """The same without what was learned."""
        return _published(self.base) if self.delta_sha256 else self

    def encoder(
        self, side: int, device: torch.device, backend: Backend, cache: DiskCache
    ) -> ImageEncoder:
        """The image encoder at a side, exported or loaded when it is first asked for."""
        key = self.base.sha256 + (self.delta_sha256 if self.adapted else "")
        chosen = choose_backend(backend, device)

        def network() -> torch.nn.Module:
            return build_encoder(self.base.name, side, self.network.state_dict())

        def make() -> ImageEncoder:
            return TorchEncoder(network(), key, side, device)

        if chosen == "openvino":
            folder = cache_root() / "graphs"
            return CachedEncoder(OpenVinoEncoder(network, key, side, folder), cache)
        return CachedEncoder(
            _DeferredEncoder(f"{key} {side} torch {device.type}", side, make), cache
        )

    def segmenter(
        self,
        device: torch.device,
        backend: Backend = "auto",
        cache_gb: float = 20.0,
        views: ViewOptions | None = None,
    ) -> SamSegmenter:
        """A segmenter that looks as the model's card says, or as `views` does."""
        cache = kept(cache_gb)
        chosen = views or self.views
        weights, by = f"{self.base.sha256} {self.delta_sha256}", choose_backend(backend, device)

        def make() -> PromptDecoder:
            return TorchDecoder(self.network, weights, device)

        return SamSegmenter(
            OpenVinoDecoder(self.load, weights, cache)
            if by == "openvino"
            else _DeferredDecoder(f"{weights} torch", cells_on(device), make),
            self.encoder(SIDE, device, backend, cache),
            self.encoder(close_side(self.base.name, chosen.side), device, backend, cache),
            chosen,
            self.memory.on(device) if self.memory else None,
        )


class CalibratedSegmenter(NamedTuple):
    """A segmenter with what to expect of its masks, the name it goes by, and the sha256 of each
    file that it came from."""

    segmenter: PromptedSegmenter
    calibration: Calibration | None
    name: str
    used: dict[str, str]

    def cut(
        self,
        image: Image,
        boxes: Boxes,
        kinds: Sequence[str],
        heatmap: NDArray[np.float32] | None = None,
    ) -> Masks:
        """See `SamSegmenter.segment`; with the figure `expected_iou`, from each box's category too,
        where the SAM was calibrated."""
        masks = self.segmenter.segment(image, boxes, heatmap)
        return self.calibration.trusted(masks, kinds) if self.calibration else masks


def kept(gigabytes: float) -> DiskCache:
    """The user's cache, of at most so many gigabytes (0: nothing is kept)."""
    return DiskCache(cache_root() / "kept", int(gigabytes * _GIGABYTE))


class _DeferredDecoder:
    """A decoder that is made at its first use."""

    def __init__(self, key: str, cells: int, make: Callable[[], PromptDecoder]) -> None:
        self.key = key
        self.cells = cells
        self._make = make

    @cached_property
    def _decoder(self) -> PromptDecoder:
        return self._make()

    def decode(self, embeddings: Sequence[Embedding], prompts: Prompts) -> Answer:
        """See `PromptDecoder`."""
        return self._decoder.decode(embeddings, prompts)


class _DeferredEncoder:
    """An encoder that is made at its first use."""

    def __init__(self, key: str, side: int, make: Callable[[], ImageEncoder]) -> None:
        self.key = key
        self.side = side
        self._make = make

    @cached_property
    def _encoder(self) -> ImageEncoder:
        return self._make()

    def encode(self, pictures: Sequence[Image]) -> list[Embedding]:
        """See `ImageEncoder`."""
        return self._encoder.encode(pictures) if pictures else []


def load_sam(name: str, store: WeightsStore | None = None) -> SamModel:
    """A SAM by the name of its weights, or by the folder that finetune-sam wrote.

    Raises WeightsError for weights that cannot be had or are not those a delta was learned on,
    DataError for a folder that holds none.
    """
    weights = store or WeightsStore()
    folder = Path(name)
    if not folder.is_dir():
        return _published(weights.get(name))
    if not (folder / CARD).exists():
        raise DataError(folder, f"holds no {CARD}", "give the folder that finetune-sam wrote")
    return read_sam(folder, weights)


def _published(base: Weights) -> SamModel:
    refuse_other_weights(base)
    return SamModel(base, once(partial(load_network, base)))


def load_segmenter(
    name: str,
    views: Mapping[str, Any],
    device: torch.device,
    backend: Backend = "auto",
    cache_gb: float = 20.0,
    store: WeightsStore | None = None,
) -> CalibratedSegmenter:
    """A segmenter by the name of SAM's or SAM 2's weights, or by the folder of finetune-sam.

    views: fields of `ViewOptions` that are to be other than the model's own; a calibration belongs
    to those and is left out with others. Raises as `load_sam`.
    """
    if name in SAM2_NAMES:
        weights = (store or WeightsStore()).get(name)
        two = Sam2Segmenter(load_sam2(weights), ViewOptions(**views), device)
        return CalibratedSegmenter(two, None, weights.name, {weights.name: weights.sha256})
    sam = load_sam(name, store)
    used = {sam.base.name: sam.base.sha256}
    if sam.delta_sha256:
        used["learned"] = sam.delta_sha256
    if sam.memory:
        seen_by, sha256 = sam.memory.seen_by
        used[seen_by] = sha256
    chosen = replace(sam.views, **views)
    segmenter = sam.segmenter(device, backend, cache_gb, chosen)
    cached = CachedSegmenter(segmenter, kept(cache_gb), lambda: segmenter.key)
    return CalibratedSegmenter(
        cached, sam.calibration if chosen == sam.views else None, sam.name, used
    )


def read_sam(folder: Path, store: WeightsStore) -> SamModel:
    """The SAM of a finetune-sam folder: its base, with what was learned added."""
    card = checked(SAM_CARD, read_json(folder / CARD), folder / CARD)
    base = store.fetch(card.base.name)
    if base.sha256 != card.base.sha256:
        wanted = card.base.sha256[:16]
        raise WeightsError(f"{folder}: was learned on {wanted}..., not {base.sha256[:16]}...")
    refuse_other_weights(base)
    delta = read_tensors(folder / DELTA, card.delta_sha256, CARD)
    adapted = any(key.startswith("image_encoder.") for key in delta)

    @once
    def load() -> Any:
        network = load_network(base)
        with fitting(folder / DELTA):
            add_delta(network, delta)
        return network

    raw, remembered = card.calibration, card.memory
    calibration = Calibration.from_json(raw.model_dump()) if raw else None
    memory = read_patch_prior(folder / MEMORY, remembered, store) if remembered else None
    views = ViewOptions(**{name: getattr(card.views, name) for name in vars(ViewOptions())})
    return SamModel(base, load, views, calibration, memory, card.delta_sha256, adapted)


def write_sam(
    folder: Path,
    model: SamModel,
    delta: dict[str, torch.Tensor],
    views: ViewOptions,
    calibration: Calibration | None,
    memory: PatchPrior | None,
    about: Mapping[str, Any],
) -> None:
    """Write what was learned on `model`, and its card, which `read_sam` reads."""
    write_delta(folder / DELTA, delta)
    learned = sha256_of(folder / DELTA)
    card = {
        "base": {"name": model.base.name, "sha256": model.base.sha256},
        "delta_sha256": learned,
        "looks": asdict(views),
        "calibration": calibration.to_json() if calibration else None,
        "memory": memory.write(folder / MEMORY) if memory else None,
        "about": dict(about),
    }
    write_json(folder / CARD, card)
